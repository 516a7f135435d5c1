//! The hashes of keys, bit-exact with twemproxy's x86-64 build.
//!
//! Several of twemproxy's functions read a key through a signed `char`, so a byte over 0x7f enters as a negative number;
//! [`signed`] is that reading. Some of what follows looks like a mistake next to the textbook (a CRC-16 that is never
//! cut to 16 bits, a SuperFastHash that starts at 0): it is what places the keys of running caches, and golden vectors
//! recorded from the real program hold it in place.

use crate::config::model::HashKind;

/// Hashes the bytes of a key. An empty input is 0 whatever the function.
#[must_use]
#[inline]
pub fn hash(kind: HashKind, key: &[u8]) -> u32 {
    if key.is_empty() {
        return 0;
    }
    match kind {
        // twemproxy's 64-bit variants are computed so that the upper half never reaches the lower one.
        HashKind::Fnv1a_64 => fnv1a_64(key),
        HashKind::Fnv1_64 => fnv1(key, 0x8422_2325, 0x1b3),
        HashKind::Fnv1a_32 => fnv1a(key, 0x811c_9dc5, 0x0100_0193),
        HashKind::Fnv1_32 => fnv1(key, 0x811c_9dc5, 0x0100_0193),
        HashKind::OneAtATime => one_at_a_time(key),
        HashKind::Md5 => md5_prefix(key),
        HashKind::Crc16 => crc16(key),
        HashKind::Crc32a => crc32(key),
        HashKind::Crc32 => (crc32(key) >> 16) & 0x7fff,
        HashKind::Hsieh => hsieh(key),
        HashKind::Murmur => murmur2(key),
        HashKind::Jenkins => jenkins(key),
    }
}

/// A byte as C's `char` widens to 32 bits where `char` is signed.
#[inline]
const fn signed(byte: u8) -> u32 {
    byte.cast_signed() as i32 as u32
}

/// The default of twemproxy, of a key that is not empty.
#[inline]
pub(super) fn fnv1a_64(key: &[u8]) -> u32 {
    fnv1a(key, 0x8422_2325, 0x1b3)
}

#[inline]
fn fnv1a(key: &[u8], basis: u32, prime: u32) -> u32 {
    let step = |hash: u32, byte: &u8| (hash ^ signed(*byte)).wrapping_mul(prime);
    let (words, rest) = key.as_chunks::<8>(); // so that eight steps are a straight line
    let hash = words.iter().fold(basis, |hash, word| word.iter().fold(hash, step));
    rest.iter().fold(hash, step)
}

fn fnv1(key: &[u8], basis: u32, prime: u32) -> u32 {
    key.iter().fold(basis, |hash, &byte| hash.wrapping_mul(prime) ^ signed(byte))
}

fn one_at_a_time(key: &[u8]) -> u32 {
    let mut hash = key.iter().fold(0u32, |hash, &byte| {
        let hash = hash.wrapping_add(signed(byte));
        let hash = hash.wrapping_add(hash << 10);
        hash ^ (hash >> 6)
    });
    hash = hash.wrapping_add(hash << 3);
    hash ^= hash >> 11;
    hash.wrapping_add(hash << 15)
}

fn md5_prefix(key: &[u8]) -> u32 {
    let [a, b, c, d, ..] = md5::compute(key).0;
    u32::from_le_bytes([a, b, c, d])
}

/// XMODEM's polynomial in a 32-bit register that is never masked: the bits shifted out at 16 stay and count.
fn crc16(key: &[u8]) -> u32 {
    key.iter().fold(0u32, |crc, &byte| (crc << 8) ^ u32::from(CRC16[(((crc >> 8) ^ u32::from(byte)) & 0xff) as usize]))
}

#[expect(clippy::cast_possible_truncation, reason = "the index is below 256")]
const CRC16: [u16; 256] = {
    let mut table = [0u16; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = (index as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

fn crc32(key: &[u8]) -> u32 {
    !key.iter().fold(u32::MAX, |crc, &byte| (crc >> 8) ^ CRC32[((crc ^ u32::from(byte)) & 0xff) as usize])
}

#[expect(clippy::cast_possible_truncation, reason = "the index is below 256")]
const CRC32: [u32; 256] = {
    let mut table = [0u32; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 0 { crc >> 1 } else { (crc >> 1) ^ 0xedb8_8320 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

/// `SuperFastHash` with 0 in place of the length as its start.
fn hsieh(key: &[u8]) -> u32 {
    let half = |low: u8, high: u8| u32::from(u16::from_le_bytes([low, high]));
    let mut hash = 0u32;
    let (blocks, tail) = key.as_chunks::<4>();
    for &[a, b, c, d] in blocks {
        hash = hash.wrapping_add(half(a, b));
        let mixed = (half(c, d) << 11) ^ hash;
        hash = (hash << 16) ^ mixed;
        hash = hash.wrapping_add(hash >> 11);
    }
    match *tail {
        [a, b, c] => {
            hash = hash.wrapping_add(half(a, b));
            hash ^= hash << 16;
            hash ^= signed(c) << 18;
            hash = hash.wrapping_add(hash >> 11);
        }
        [a, b] => {
            hash = hash.wrapping_add(half(a, b));
            hash ^= hash << 11;
            hash = hash.wrapping_add(hash >> 17);
        }
        [a] => {
            hash = hash.wrapping_add(u32::from(a));
            hash ^= hash << 10;
            hash = hash.wrapping_add(hash >> 1);
        }
        _ => {}
    }
    hash ^= hash << 3;
    hash = hash.wrapping_add(hash >> 5);
    hash ^= hash << 4;
    hash = hash.wrapping_add(hash >> 17);
    hash ^= hash << 25;
    hash.wrapping_add(hash >> 6)
}

/// `MurmurHash2` with a seed made of the length.
#[expect(clippy::cast_possible_truncation, reason = "the length enters modulo 2^32")]
fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let len = key.len() as u32;
    let mut hash = 0xdead_beef_u32.wrapping_mul(len) ^ len;
    let (blocks, tail) = key.as_chunks::<4>();
    for block in blocks {
        let mut mixed = u32::from_le_bytes(*block).wrapping_mul(M);
        mixed ^= mixed >> 24;
        hash = hash.wrapping_mul(M) ^ mixed.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (index, &byte) in tail.iter().enumerate() {
            hash ^= u32::from(byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// Bob Jenkins's lookup3 (`hashlittle`) with start value 13.
#[expect(clippy::cast_possible_truncation, reason = "the length enters modulo 2^32")]
fn jenkins(key: &[u8]) -> u32 {
    let start = 0xdead_beef_u32.wrapping_add(key.len() as u32).wrapping_add(13);
    let (mut a, mut b, mut c) = (start, start, start);
    let word = |bytes: &[u8], at: usize| {
        (0..4).fold(0u32, |word, index| word | u32::from(*bytes.get(at + index).unwrap_or(&0)) << (8 * index))
    };
    let mut rest = key;
    while rest.len() > 12 {
        a = a.wrapping_add(word(rest, 0));
        b = b.wrapping_add(word(rest, 4));
        c = c.wrapping_add(word(rest, 8));
        for (shift, turn) in [4, 6, 8, 16, 19, 4].into_iter().zip([0, 1, 2].into_iter().cycle()) {
            let (x, y, z) = match turn {
                0 => (&mut a, &mut b, &mut c),
                1 => (&mut b, &mut c, &mut a),
                _ => (&mut c, &mut a, &mut b),
            };
            *x = x.wrapping_sub(*z) ^ z.rotate_left(shift);
            *z = z.wrapping_add(*y);
        }
        rest = &rest[12..];
    }
    a = a.wrapping_add(word(rest, 0));
    b = b.wrapping_add(word(rest, 4));
    c = c.wrapping_add(word(rest, 8));
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24))
}

#[cfg(test)]
mod tests {
    use std::hash::Hasher;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_check_values() {
        assert_eq!(hash(HashKind::Crc32a, b"123456789"), 0xcbf4_3926);
        assert_eq!(hash(HashKind::Crc32, b"123456789"), 0x4bf4);
        assert_eq!(hash(HashKind::Crc16, b"123456789") & 0xffff, 0x31c3);
        assert_eq!(hash(HashKind::Md5, b"a"), u32::from_le_bytes([0x0c, 0xc1, 0x75, 0xb9]));
        for (_, kind) in HashKind::ALL {
            assert_eq!(hash(*kind, b""), 0, "{}", kind.name());
        }
    }

    proptest! {
        #[test]
        fn fnv1a_64_is_the_low_half_of_the_real_one_for_ascii(key in "[ -~]{1,60}") {
            let mut oracle = fnv::FnvHasher::default();
            oracle.write(key.as_bytes());
            prop_assert_eq!(u64::from(hash(HashKind::Fnv1a_64, key.as_bytes())), oracle.finish() & 0xffff_ffff);
        }
    }
}
