//! Frames of the binary protocol, and a client that speaks it.

use crate::support::client::Client;

pub(super) const GET: u8 = 0x00;
pub(super) const SET: u8 = 0x01;
pub(super) const ADD: u8 = 0x02;
pub(super) const DELETE: u8 = 0x04;
pub(super) const INCREMENT: u8 = 0x05;
pub(super) const QUIT: u8 = 0x07;
pub(super) const FLUSH: u8 = 0x08;
pub(super) const GETQ: u8 = 0x09;
pub(super) const NOOP: u8 = 0x0a;
pub(super) const VERSION: u8 = 0x0b;
pub(super) const GETK: u8 = 0x0c;
pub(super) const GETKQ: u8 = 0x0d;
pub(super) const STAT: u8 = 0x10;
pub(super) const SETQ: u8 = 0x11;

pub(super) const NOT_FOUND: u16 = 1;
pub(super) const TOO_LARGE: u16 = 3;
pub(super) const INVALID: u16 = 4;
pub(super) const NOT_STORED: u16 = 5;
pub(super) const UNKNOWN: u16 = 0x81;
pub(super) const UNAVAILABLE: u16 = 0x86;

/// A request.
#[derive(Debug, Clone, Default)]
pub(super) struct Ask {
    pub(super) opcode: u8,
    pub(super) key: Vec<u8>,
    pub(super) extras: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) opaque: u32,
    pub(super) cas: u64,
}

impl Ask {
    pub(super) fn new(opcode: u8, key: impl AsRef<[u8]>) -> Self {
        Self { opcode, key: key.as_ref().to_vec(), ..Self::default() }
    }

    /// A `set`, or an `add`, of a value that stays.
    pub(super) fn store(opcode: u8, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        Self { extras: vec![0; 8], value: value.as_ref().to_vec(), ..Self::new(opcode, key) }
    }

    pub(super) fn opaque(self, opaque: u32) -> Self {
        Self { opaque, ..self }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let body = self.extras.len() + self.key.len() + self.value.len();
        let mut bytes = vec![0x80, self.opcode];
        bytes.extend_from_slice(&u16::try_from(self.key.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(&[u8::try_from(self.extras.len()).unwrap(), 0, 0, 0]);
        bytes.extend_from_slice(&u32::try_from(body).unwrap().to_be_bytes());
        bytes.extend_from_slice(&self.opaque.to_be_bytes());
        bytes.extend_from_slice(&self.cas.to_be_bytes());
        [bytes, self.extras.clone(), self.key.clone(), self.value.clone()].concat()
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) opcode: u8,
    pub(super) status: u16,
    pub(super) opaque: u32,
    pub(super) cas: u64,
    pub(super) extras: Vec<u8>,
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
}

/// The next answer.
pub(super) fn told(client: &mut Client) -> Told {
    let head = client.read(24);
    let two = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let four = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
    assert_eq!((head[0], head[5]), (0x81, 0), "no answer: {head:?}");
    let mut extras = client.read(four(8) as usize);
    let mut key = extras.split_off(head[4].into());
    let value = key.split_off(two(2).into());
    let cas = u64::from_be_bytes(head[16..24].try_into().unwrap());
    Told { opcode: head[1], status: two(6), opaque: four(12), cas, extras, key, value }
}

/// What a request is answered.
pub(super) fn asked(client: &mut Client, ask: &Ask) -> Told {
    client.send(ask.bytes());
    told(client)
}

/// All that is answered to these, up to the answer to a no-op behind them.
pub(super) fn all_told(client: &mut Client, asks: &[Ask]) -> Vec<Told> {
    let mut bytes: Vec<u8> = asks.iter().flat_map(Ask::bytes).collect();
    bytes.extend(Ask::new(NOOP, "").opaque(u32::MAX).bytes());
    client.send(bytes);
    let mut all = Vec::new();
    loop {
        let told = told(client);
        if (told.opcode, told.opaque) == (NOOP, u32::MAX) {
            return all;
        }
        all.push(told);
    }
}
