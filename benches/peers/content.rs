//! Keys, values and requests of a workload, and what every answer must contain.
//!
//! Keys and values are functions of a number, so that the generator can check each reply byte for byte without
//! remembering what it wrote: a value read under key *n* is right or wrong whoever stored it. What is the same in all
//! requests is put together once, because the generator shares the CPU with what it measures.

use crate::binary;
use crate::workload::Workload;

/// Bytes in each key: all keys of a workload are equally long, so that a reply can be checked at fixed offsets.
pub(crate) const KEY_BYTES: usize = 16;
const KEY_START: &[u8] = b"peers:key:";

/// Keys of one multi-get lie this far apart; a prime, so that they are all different.
const STRIDE: u32 = 7_919;

/// All keys and values of one workload.
///
/// Value *n* is the window at offset *n* of one random block: every value differs from every other, and all of them
/// together take little more memory (and cache) than one.
pub(crate) struct Content {
    block: Vec<u8>,
    value_bytes: usize,
    keys: u32,
    /// Times [`STRIDE`] it is 1, modulo the number of keys.
    inverse: u64,
    redis: bool,
    binary: bool,
    words: Words,
}

/// What surrounds keys and values.
struct Words {
    set: Vec<u8>,
    set_value: Vec<u8>,
    get: Vec<u8>,
    before_key: &'static [u8],
    value: Vec<u8>,
    array: Vec<u8>,
}

impl Words {
    fn memcached(value_bytes: usize) -> Self {
        Self {
            set: b"set ".into(),
            set_value: format!(" 0 0 {value_bytes}\r\n").into(),
            get: b"get".into(),
            before_key: b" ",
            value: format!(" 0 {value_bytes}\r\n").into(),
            array: Vec::new(),
        }
    }

    fn redis(value_bytes: usize, keys_per_get: u32) -> Self {
        let get = match keys_per_get {
            1 => "*2\r\n$3\r\nGET".to_owned(),
            count => format!("*{}\r\n$4\r\nMGET", count + 1),
        };
        Self {
            set: format!("*3\r\n$3\r\nSET\r\n${KEY_BYTES}\r\n").into(),
            set_value: format!("\r\n${value_bytes}\r\n").into(),
            get: get.into(),
            before_key: b"\r\n$16\r\n",
            value: format!("${value_bytes}\r\n").into(),
            array: format!("*{keys_per_get}\r\n").into(),
        }
    }
}

impl Content {
    /// The content of `workload`, the same in every process.
    pub(crate) fn new(workload: &Workload) -> Self {
        let mut random = Random::new(0x5eed);
        let bytes = workload.value_bytes + workload.keys as usize;
        let block = (0..bytes).map(|_| random.next().to_le_bytes()[4]).collect();
        let words = if workload.redis {
            Words::redis(workload.value_bytes, workload.keys_per_get)
        } else {
            Words::memcached(workload.value_bytes)
        };
        let keys = u64::from(workload.keys);
        let inverse = (1..keys).find(|inverse| inverse * u64::from(STRIDE) % keys == 1).unwrap_or(1);
        let Workload { value_bytes, keys, redis, binary, .. } = *workload;
        Self { block, value_bytes, keys, inverse, redis, binary, words }
    }

    /// How many keys there are; they are numbered from 0.
    pub(crate) fn keys(&self) -> u32 {
        self.keys
    }

    /// The number of the key at `place` in a get that starts with key `first`.
    pub(crate) fn key_at(&self, first: u32, place: u32) -> u32 {
        (first + place * STRIDE) % self.keys
    }

    /// Where key `number` stands in a get that starts with key `first`.
    pub(crate) fn place_of(&self, first: u32, number: u32) -> u32 {
        if number == first {
            return 0;
        }
        let distance = u64::from((number + self.keys - first) % self.keys);
        // A remainder of a number of 32 bits.
        u32::try_from(distance * self.inverse % u64::from(self.keys)).unwrap_or(u32::MAX)
    }

    /// The text of key `number`.
    pub(crate) fn key(number: u32) -> [u8; KEY_BYTES] {
        let mut key = *b"peers:key:000000";
        let mut rest = number;
        for digit in key[KEY_START.len()..].iter_mut().rev() {
            *digit = b"0123456789"[(rest % 10) as usize];
            rest /= 10;
        }
        key
    }

    /// The number of a key that [`Content::key`] wrote, when it is one of this content's.
    pub(crate) fn key_number(&self, key: &[u8]) -> Option<u32> {
        let digits = key.strip_prefix(KEY_START).filter(|digits| digits.len() == KEY_BYTES - KEY_START.len())?;
        let number = digits
            .iter()
            .try_fold(0_u32, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0')))?;
        (number < self.keys).then_some(number)
    }

    /// What key `number` holds.
    pub(crate) fn value(&self, number: u32) -> &[u8] {
        let start = number as usize;
        &self.block[start..start + self.value_bytes]
    }

    /// Appends a set of key `number`.
    pub(crate) fn push_set(&self, out: &mut Vec<u8>, number: u32) {
        if self.binary {
            return binary::push_set(out, self, number);
        }
        out.extend_from_slice(&self.words.set);
        out.extend_from_slice(&Self::key(number));
        out.extend_from_slice(&self.words.set_value);
        out.extend_from_slice(self.value(number));
        out.extend_from_slice(b"\r\n");
    }

    /// Appends a get of `count` keys that starts with key `first`; as many as the workload says.
    pub(crate) fn push_get(&self, out: &mut Vec<u8>, first: u32, count: u32) {
        if self.binary {
            return binary::push_get(out, self, first, count);
        }
        let before = self.words.before_key;
        out.reserve(self.words.get.len() + (before.len() + KEY_BYTES) * count as usize + 2);
        out.extend_from_slice(&self.words.get);
        for place in 0..count {
            out.extend_from_slice(before);
            out.extend_from_slice(&Self::key(self.key_at(first, place)));
        }
        out.extend_from_slice(b"\r\n");
    }

    /// What the answer to a set is, where it is a line.
    pub(crate) fn stored(&self) -> &'static [u8] {
        if self.redis { b"+OK\r\n" } else { b"STORED\r\n" }
    }

    /// Whether requests are Redis's.
    pub(crate) fn is_redis(&self) -> bool {
        self.redis
    }

    /// Whether requests are of memcached's binary protocol.
    pub(crate) fn is_binary(&self) -> bool {
        self.binary
    }

    /// What follows the key in a `VALUE` line, its line end included; of Redis, what stands before a value.
    pub(crate) fn value_header(&self) -> &[u8] {
        &self.words.value
    }

    /// What the answer to an `MGET` starts with.
    pub(crate) fn array_header(&self) -> &[u8] {
        &self.words.array
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
