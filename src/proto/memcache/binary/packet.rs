//! The frames of the binary protocol.

/// Bytes of each header.
pub(super) const HEADER: usize = 24;

/// The first byte of a client's connection that says that it speaks the binary protocol, and of each of its requests.
pub const MAGIC: u8 = 0x80;

const RESPONSE_MAGIC: u8 = 0x81;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Success,
    NotFound,
    Exists,
    TooLarge,
    Invalid,
    NotStored,
    NotNumeric,
    /// Who asks has not said who it is, or not said it right.
    NotAdmitted,
    /// More has to be said before that is known.
    Continue,
    UnknownCommand,
    OutOfMemory,
    /// No server could be asked, or it said something that has no status of its own.
    Unavailable,
}

impl Status {
    const fn code(self) -> u16 {
        match self {
            Self::Success => 0x00,
            Self::NotFound => 0x01,
            Self::Exists => 0x02,
            Self::TooLarge => 0x03,
            Self::Invalid => 0x04,
            Self::NotStored => 0x05,
            Self::NotNumeric => 0x06,
            Self::NotAdmitted => 0x20,
            Self::Continue => 0x21,
            Self::UnknownCommand => 0x81,
            Self::OutOfMemory => 0x82,
            Self::Unavailable => 0x86,
        }
    }

    /// What memcached says of it.
    const fn text(self) -> &'static str {
        match self {
            Self::Success | Self::Continue => "",
            Self::NotFound => "Not found",
            Self::Exists => "Data exists for key.",
            Self::TooLarge => "Too large.",
            Self::Invalid => "Invalid arguments",
            Self::NotStored => "Not stored.",
            Self::NotNumeric => "Non-numeric server-side value for incr or decr",
            Self::NotAdmitted => "Auth failure.",
            Self::UnknownCommand => "Unknown command",
            Self::OutOfMemory => "Out of memory",
            Self::Unavailable => "Temporary failure",
        }
    }
}

/// The header of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) opcode: u8,
    pub(super) key: usize,
    pub(super) extras: usize,
    /// Bytes behind the header: extras, key, value.
    pub(super) body: usize,
    pub(super) opaque: u32,
    pub(super) cas: u64,
}

impl Header {
    /// Reads one; `None` where it is not the header of a request.
    pub(super) fn read(bytes: &[u8; HEADER]) -> Option<Self> {
        if bytes[0] != MAGIC {
            return None;
        }
        Some(Self {
            opcode: bytes[1],
            key: u16::from_be_bytes([bytes[2], bytes[3]]).into(),
            extras: bytes[4].into(),
            body: number(&bytes[8..12]) as usize,
            opaque: number(&bytes[12..16]),
            cas: bytes.last_chunk().map_or(0, |cas| u64::from_be_bytes(*cas)),
        })
    }
}

/// The number in the first four bytes.
pub(super) fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// What an answer repeats of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) opcode: u8,
    pub(super) opaque: u32,
}

/// Appends an answer: all of it, but for as many bytes of a value as follow by themselves.
pub(super) fn push(out: &mut Vec<u8>, asked: Asked, (status, cas): (Status, u64), parts: [&[u8]; 3], value: usize) {
    let [extras, key, body] = parts;
    let lens = (extras.len(), key.len(), extras.len() + key.len() + body.len() + value);
    out.extend_from_slice(&header(asked, (status, cas), lens));
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// What a packet has room for of the flags of an item: some servers take longer ones (`--enable-large-client-flags`), and tell
/// their last 32 bits in this protocol.
pub(super) fn client_flags(flags: u64) -> u32 {
    u32::try_from(flags & u64::from(u32::MAX)).unwrap_or_default()
}

/// Appends the beginning of a value that was asked for, of so many bytes, which follow by themselves.
#[inline]
pub(super) fn push_value(out: &mut Vec<u8>, asked: Asked, (flags, cas): (u32, u64), key: &[u8], value: usize) {
    const EXTRAS: usize = size_of::<u32>();
    let mut front = [0; HEADER + EXTRAS];
    let header = header(asked, (Status::Success, cas), (EXTRAS, key.len(), EXTRAS + key.len() + value));
    front[..HEADER].copy_from_slice(&header);
    front[HEADER..].copy_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&front);
    out.extend_from_slice(key);
}

/// The header of an answer with extras, a key and a body of so many bytes.
#[inline]
fn header(asked: Asked, (status, cas): (Status, u64), lens: (usize, usize, usize)) -> [u8; HEADER] {
    let len = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
    let (extras, key) = (len(lens.0), len(lens.1));
    let mut header = [0; HEADER];
    header[..6].copy_from_slice(&[RESPONSE_MAGIC, asked.opcode, key[2], key[3], extras[3], 0]);
    header[6..8].copy_from_slice(&status.code().to_be_bytes());
    header[8..12].copy_from_slice(&len(lens.2));
    header[12..16].copy_from_slice(&asked.opaque.to_be_bytes());
    header[16..].copy_from_slice(&cas.to_be_bytes());
    header
}

/// Appends an answer that has nothing to give: what became of the request, in words where that is no success.
pub(super) fn push_status(out: &mut Vec<u8>, asked: Asked, status: Status, cas: u64) {
    push(out, asked, (status, cas), [b"", b"", status.text().as_bytes()], 0);
}
