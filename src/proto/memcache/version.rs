//! What servers call their version, and which of several is the lowest.

use std::cmp::Ordering;

use super::number;

/// Longest version that is taken for one, in bytes.
const LIMIT: usize = 32;

/// A version as a server says it: one word that begins with a digit. It is compared number by number, `1.6.9` before
/// `1.6.18`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(Box<[u8]>);

impl Version {
    /// The version in the answer to `version`, or behind `STAT version`: its first word that begins with a digit. Some
    /// servers name themselves before it, some their system behind it.
    #[must_use]
    pub fn find(text: &[u8]) -> Option<Self> {
        let mut words = text.trim_ascii().split(|byte| *byte == b' ');
        let word = words.find(|word| word.first().is_some_and(u8::is_ascii_digit))?;
        (word.len() <= LIMIT && word.iter().all(u8::is_ascii_graphic)).then(|| Self(word.into()))
    }

    /// The word.
    #[must_use]
    pub fn word(&self) -> &[u8] {
        &self.0
    }

    /// The lower of two, where there are two.
    #[must_use]
    pub fn lower(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        one.into_iter().chain(other).min()
    }

    fn numbers(&self) -> impl Iterator<Item = u64> {
        self.0.split(|byte| *byte == b'.').map(|part| {
            let digits = part.iter().take_while(|byte| byte.is_ascii_digit()).count();
            number::digits_only(&part[..digits]).unwrap_or(0)
        })
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.numbers().cmp(other.numbers()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_and_compared_by_their_numbers() {
        let of =
            |text: &str| Version::find(text.as_bytes()).map(|version| String::from_utf8_lossy(version.word()).into());
        assert_eq!(of("VERSION 1.6.18\r\n"), Some("1.6.18".to_owned()));
        assert_eq!(of("VERSION 1.4.25 Ubuntu\r\n"), Some("1.4.25".to_owned()));
        assert_eq!(of("VERSION mcrouter 36.0.0\r\n"), Some("36.0.0".to_owned()));
        assert_eq!(of("VERSION unknown\r\n"), None);
        assert_eq!(of("VERSION \r\n"), None);
        let ascending = ["1.4.39", "1.5.22", "1.6", "1.6.9", "1.6.18", "1.6.18-rc1", "1.6.38", "1.10.0", "2.0"];
        let versions: Vec<_> = ascending.iter().map(|text| Version::find(text.as_bytes()).unwrap()).collect();
        assert!(versions.is_sorted(), "{versions:?}");
        let lowest = Version::lower(Some(versions[4].clone()), Some(versions[3].clone()));
        assert_eq!(lowest.unwrap().word(), b"1.6.9");
        assert_eq!(Version::lower(None, Some(versions[0].clone())).unwrap().word(), b"1.4.39");
    }
}
