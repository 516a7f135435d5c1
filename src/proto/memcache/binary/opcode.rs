//! The requests of the binary protocol.

pub(super) const GETQ: u8 = 0x09;
pub(super) const GETKQ: u8 = 0x0d;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    /// A get that gives its item another lifetime, or that alone.
    GetAndTouch,
    Touch,
    Store(Mode),
    Delete,
    Increment,
    Decrement,
    Flush,
    NoOp,
    Version,
    Stat,
    Quit,
}

/// How a value is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Set,
    Add,
    Replace,
    Append,
    Prepend,
}

/// What a request consists of besides its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// Bytes of the extras, and whether there may be none instead.
    pub(super) extras: usize,
    pub(super) extras_optional: bool,
    /// Whether there must be a key, or must not; either may be where it is not said.
    pub(super) key: Option<bool>,
    /// Whether there may be a value.
    pub(super) value: bool,
}

/// The verb of an opcode, and whether it is quiet: what it is about mostly is not told. `None`: no server knows it.
pub(super) const fn verb(opcode: u8) -> Option<(Verb, bool)> {
    Some(match opcode {
        0x00 => (Verb::Get, false),
        GETQ => (Verb::Get, true),
        0x0c => (Verb::Get, false),
        GETKQ => (Verb::Get, true),
        0x1c => (Verb::Touch, false),
        0x1d => (Verb::GetAndTouch, false),
        0x1e => (Verb::GetAndTouch, true),
        0x23 => (Verb::GetAndTouch, false),
        0x24 => (Verb::GetAndTouch, true),
        0x01 => (Verb::Store(Mode::Set), false),
        0x11 => (Verb::Store(Mode::Set), true),
        0x02 => (Verb::Store(Mode::Add), false),
        0x12 => (Verb::Store(Mode::Add), true),
        0x03 => (Verb::Store(Mode::Replace), false),
        0x13 => (Verb::Store(Mode::Replace), true),
        0x0e => (Verb::Store(Mode::Append), false),
        0x19 => (Verb::Store(Mode::Append), true),
        0x0f => (Verb::Store(Mode::Prepend), false),
        0x1a => (Verb::Store(Mode::Prepend), true),
        0x04 => (Verb::Delete, false),
        0x14 => (Verb::Delete, true),
        0x05 => (Verb::Increment, false),
        0x15 => (Verb::Increment, true),
        0x06 => (Verb::Decrement, false),
        0x16 => (Verb::Decrement, true),
        0x08 => (Verb::Flush, false),
        0x18 => (Verb::Flush, true),
        0x0a => (Verb::NoOp, false),
        0x0b => (Verb::Version, false),
        0x10 => (Verb::Stat, false),
        0x07 => (Verb::Quit, false),
        0x17 => (Verb::Quit, true),
        _ => return None,
    })
}

/// Whether the answer to a get names its key.
pub(super) const fn names_key(opcode: u8) -> bool {
    matches!(opcode, 0x0c | GETKQ | 0x23 | 0x24)
}

impl Verb {
    pub(super) const fn shape(self) -> Shape {
        let (extras, extras_optional, key, value) = match self {
            Self::Get | Self::Delete => (0, false, Some(true), false),
            Self::GetAndTouch | Self::Touch => (4, false, Some(true), false),
            Self::Store(Mode::Set | Mode::Add | Mode::Replace) => (8, false, Some(true), true),
            Self::Store(Mode::Append | Mode::Prepend) => (0, false, Some(true), true),
            Self::Increment | Self::Decrement => (20, false, Some(true), false),
            Self::Flush => (4, true, Some(false), false),
            Self::NoOp | Self::Version | Self::Quit => (0, false, Some(false), false),
            Self::Stat => (0, false, None, false),
        };
        Shape { extras, extras_optional, key, value }
    }
}
