//! Leases: who is told first that a key is not there has the right to compute it, and an item of its own beside the key's says
//! so for as long. It stands on the key's server, whatever its own name would say.

use std::hash::Hasher;

use fnv::FnvHasher;

use super::resp::encode;

/// What the names of leases begin with.
const BEGIN: &[u8] = b"softmiss:lease:";

/// The longest name: no key of memcached is longer.
const LONGEST: usize = 250;

/// The name of the lease for a key. One that would be too long, or cannot be written as it is everywhere, has a hash in the
/// key's place.
#[must_use]
pub fn name(key: &[u8]) -> Vec<u8> {
    if is_plain(BEGIN, key) {
        return [BEGIN, key].concat();
    }
    let (mut one, mut other) = (FnvHasher::default(), FnvHasher::with_key(0x9e37_79b9_7f4a_7c15));
    one.write(key);
    other.write(key);
    [BEGIN, format!("#{:016x}{:016x}", one.finish(), other.finish()).as_bytes()].concat()
}

/// Whether this in front of a key is a name that can be written everywhere.
pub(super) fn is_plain(begin: &[u8], key: &[u8]) -> bool {
    begin.len() + key.len() <= LONGEST && key.iter().all(|byte| *byte > b' ' && *byte != 0x7f)
}

/// The commands of memcached. All of them are older than its meta commands.
pub mod memcache {
    use crate::proto::memcache::encode;
    use std::time::Duration;

    /// Appends the request for a lease of this name. memcached counts whole seconds and takes the one that has begun for a
    /// whole one: none ends before its time, and none later than a second after it.
    pub fn take(out: &mut Vec<u8>, name: &[u8], lease: Duration) {
        let seconds = lease.as_secs() + u64::from(lease.subsec_nanos() > 0) + 1;
        out.extend_from_slice(b"add ");
        out.extend_from_slice(name);
        out.extend_from_slice(format!(" 0 {seconds} 1\r\n1\r\n").as_bytes());
    }

    /// Appends its end.
    pub fn end(out: &mut Vec<u8>, name: &[u8]) {
        encode::delete(out, name, false);
    }
}

/// The same of Redis.
pub mod resp {
    use super::encode;
    use std::time::Duration;

    /// Appends the request for a lease of this name.
    pub fn take(out: &mut Vec<u8>, name: &[u8], lease: Duration) {
        encode::words(out, &[b"SET", name, b"1", b"NX", b"PX", lease.as_millis().to_string().as_bytes()]);
    }

    /// Appends the end of some.
    pub fn end(out: &mut Vec<u8>, names: &[Vec<u8>]) {
        let mut words: Vec<&[u8]> = vec![b"DEL"];
        words.extend(names.iter().map(Vec::as_slice));
        encode::words(out, &words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_lease_is_named_after_its_key() {
        assert_eq!(name(b"page:1"), b"softmiss:lease:page:1");
        let long = name(&[b'x'; 250]);
        assert!(long.starts_with(b"softmiss:lease:#") && long.len() == 48, "{}", long.escape_ascii());
        assert_ne!(long, name(&[b'x'; 249]));
        assert_ne!(name(b"a b"), name(b"a c"));
        assert!(!name(b"a b").contains(&b' '));
    }

    #[test]
    fn no_lease_ends_before_its_time() {
        let mut out = Vec::new();
        memcache::take(&mut out, b"n", Duration::from_secs(5));
        memcache::take(&mut out, b"n", Duration::from_millis(1500));
        assert_eq!(out, b"add n 0 6 1\r\n1\r\nadd n 0 3 1\r\n1\r\n");
        out.clear();
        resp::take(&mut out, b"n", Duration::from_millis(1500));
        assert_eq!(out, b"*6\r\n$3\r\nSET\r\n$1\r\nn\r\n$1\r\n1\r\n$2\r\nNX\r\n$2\r\nPX\r\n$4\r\n1500\r\n");
    }
}
