//! Which of many byte strings have come before.

use std::hash::{DefaultHasher, Hasher};

/// Numbers of byte strings, in the order in which they first came, found by what they are. The strings are kept by whoever
/// has this: so there is nothing to be taken apart when it is let go of, however many they are.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// A number and one, at the place that belongs to its string or behind that; 0 where there is none. At least half of
    /// them are that.
    places: Vec<u32>,
    count: usize,
    seed: u64,
}

impl Names {
    /// None yet, and room for so many. A `seed` that nobody knows keeps those who choose the strings from having them share a
    /// place.
    pub(crate) fn with_room(seed: u64, names: usize) -> Self {
        Self { places: vec![0; room(names)], count: 0, seed }
    }

    /// The number of a string that has come before. Any other has the next number from now on. `known` has those that came,
    /// by their numbers.
    pub(crate) fn add<'a>(&mut self, name: &[u8], known: impl Fn(usize) -> &'a [u8]) -> Option<usize> {
        if 2 * (self.count + 1) > self.places.len() {
            self.grow(&known);
        }
        let mut at = self.place(name);
        while let number @ 1.. = self.places[at] {
            let number = number as usize - 1;
            if known(number) == name {
                return Some(number);
            }
            at = (at + 1) & (self.places.len() - 1);
        }
        self.count += 1;
        self.places[at] = u32::try_from(self.count).unwrap_or(u32::MAX);
        None
    }

    /// Memory that it holds.
    pub(crate) const fn footprint(&self) -> usize {
        size_of::<u32>() * self.places.len()
    }

    fn grow<'a>(&mut self, known: &impl Fn(usize) -> &'a [u8]) {
        self.places = vec![0; room(self.count.max(8) * 2)];
        for number in 0..self.count {
            let mut at = self.place(known(number));
            while self.places[at] != 0 {
                at = (at + 1) & (self.places.len() - 1);
            }
            self.places[at] = u32::try_from(number + 1).unwrap_or(u32::MAX);
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "only so many bits are used")]
    fn place(&self, name: &[u8]) -> usize {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.seed);
        hasher.write(name);
        hasher.finish() as usize & (self.places.len() - 1)
    }
}

/// Places for so many.
const fn room(names: usize) -> usize {
    (2 * names + 2).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_a_number() {
        for room in [0, 10, 5000] {
            let all: Vec<Vec<u8>> = (0..3000).map(|name: u32| name.to_string().into_bytes()).collect();
            let mut names = if room == 0 { Names::default() } else { Names::with_room(7, room) };
            for (number, name) in all.iter().enumerate() {
                assert_eq!(names.add(name, |known| &all[known]), None);
                assert_eq!(names.add(&all[number / 2], |known| &all[known]), Some(number / 2));
            }
            assert!(names.footprint() < 64 * 3000);
        }
    }
}
