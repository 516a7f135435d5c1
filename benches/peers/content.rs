//! Keys, values and requests of a workload, and what every answer must contain.
//!
//! Keys and values are functions of a number, so that the generator can check each reply byte for byte without
//! remembering what it wrote: a value read under key *n* is right or wrong whoever stored it.

use crate::workload::Workload;

/// Bytes in each key: all keys of a workload are equally long, so that a reply can be checked at fixed offsets.
pub(crate) const KEY_BYTES: usize = 16;

/// All keys and values of one workload.
///
/// Value *n* is the window at offset *n* of one random block: every value differs from every other, and all of them
/// together take little more memory (and cache) than one.
pub(crate) struct Content {
    block: Vec<u8>,
    value_bytes: usize,
    keys: u32,
    value_header: Vec<u8>,
    set_header: Vec<u8>,
    redis: bool,
}

impl Content {
    /// The content of `workload`, the same in every process.
    pub(crate) fn new(workload: &Workload) -> Self {
        let mut random = Random::new(0x5eed);
        let bytes = workload.value_bytes + workload.keys as usize;
        let block = (0..bytes).map(|_| random.next().to_le_bytes()[4]).collect();
        let length = workload.value_bytes;
        Self {
            block,
            value_bytes: length,
            keys: workload.keys,
            value_header: if workload.redis { format!("${length}\r\n") } else { format!(" 0 {length}\r\n") }
                .into_bytes(),
            set_header: if workload.redis { format!("\r\n${length}\r\n") } else { format!(" 0 0 {length}\r\n") }
                .into_bytes(),
            redis: workload.redis,
        }
    }

    /// How many keys there are; they are numbered from 0.
    pub(crate) fn keys(&self) -> u32 {
        self.keys
    }

    /// Appends key `number`.
    pub(crate) fn push_key(out: &mut Vec<u8>, number: u32) {
        out.extend_from_slice(b"peers:key:");
        let mut digits = [b'0'; 6];
        let mut rest = number;
        for digit in digits.iter_mut().rev() {
            *digit = b"0123456789"[(rest % 10) as usize];
            rest /= 10;
        }
        out.extend_from_slice(&digits);
    }

    /// The number of a key that [`Content::push_key`] wrote.
    pub(crate) fn key_number(key: &[u8]) -> Option<u32> {
        let digits = key.strip_prefix(b"peers:key:")?;
        str::from_utf8(digits).ok()?.parse().ok()
    }

    /// What key `number` holds.
    pub(crate) fn value(&self, number: u32) -> &[u8] {
        let start = number as usize;
        &self.block[start..start + self.value_bytes]
    }

    /// Appends a set of key `number`.
    pub(crate) fn push_set(&self, out: &mut Vec<u8>, number: u32) {
        let start = if self.redis { format!("*3\r\n$3\r\nSET\r\n${KEY_BYTES}\r\n") } else { "set ".to_owned() };
        out.extend_from_slice(start.as_bytes());
        Self::push_key(out, number);
        out.extend_from_slice(&self.set_header);
        out.extend_from_slice(self.value(number));
        out.extend_from_slice(b"\r\n");
    }

    /// Appends a get of keys.
    pub(crate) fn push_get(&self, out: &mut Vec<u8>, keys: impl ExactSizeIterator<Item = u32>) {
        if !self.redis {
            out.extend_from_slice(b"get");
            for key in keys {
                out.push(b' ');
                Self::push_key(out, key);
            }
            return out.extend_from_slice(b"\r\n");
        }
        match keys.len() {
            1 => out.extend_from_slice(b"*2\r\n$3\r\nGET"),
            count => {
                out.push(b'*');
                out.extend_from_slice((count + 1).to_string().as_bytes());
                out.extend_from_slice(b"\r\n$4\r\nMGET");
            }
        }
        for key in keys {
            out.extend_from_slice(b"\r\n$16\r\n");
            Self::push_key(out, key);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// What the answer to a set is.
    pub(crate) fn stored(&self) -> &'static [u8] {
        if self.redis { b"+OK\r\n" } else { b"STORED\r\n" }
    }

    /// Whether requests are Redis's.
    pub(crate) fn is_redis(&self) -> bool {
        self.redis
    }

    /// What follows the key in a `VALUE` line, its line end included; of Redis, what stands before a value.
    pub(crate) fn value_header(&self) -> &[u8] {
        &self.value_header
    }
}

/// A small seeded generator (xorshift64*): runs ask for the same keys in the same order.
pub(crate) struct Random(u64);

impl Random {
    /// A generator with its seed; 0 is taken as 1, which xorshift needs.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, close enough to evenly.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        let high = self.next() >> 32;
        // A product of two numbers below 2^32, shifted right by 32, is below 2^32.
        u32::try_from((high * u64::from(bound)) >> 32).unwrap_or(0)
    }
}
