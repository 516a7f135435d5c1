//! The heaviest keys and the largest values of a stream, in tables of fixed size.

use crate::config::model::ServerId;

/// Bytes of a key that are kept.
pub const KEY_BYTES: usize = 250;

/// Keys that a summary follows: one with more than a 128th of the weight is never missed.
pub(super) const PLACES: usize = 128;

/// Values that are kept as the largest.
pub(super) const LARGEST: usize = 16;

/// A key in a request that is in the sample.
#[derive(Debug, Clone, Copy)]
pub struct Touch<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The server that it went to, or should have.
    pub server: ServerId,
    /// The requests that it stands for, in parts of [`super::REQUEST`].
    pub requests: u64,
    /// The bytes of values that it stands for.
    pub bytes: u64,
    /// The bytes of its own value.
    pub value: u64,
}

/// A key, or as much of it as is kept, and its whole length.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    bytes: Vec<u8>,
    len: usize,
}

impl Key {
    fn set(&mut self, key: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(&key[..key.len().min(KEY_BYTES)]);
        self.len = key.len();
    }

    pub(super) fn is(&self, key: &[u8]) -> bool {
        self.len == key.len() && key.starts_with(&self.bytes)
    }

    /// The key for people: what is no text, or would not stay in its place, is written out.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = escaped(&self.bytes);
        if self.len > self.bytes.len() {
            text.push('…');
        }
        text
    }
}

/// Bytes for people: text as it is; control characters, characters that turn the text around or cannot be seen, and what is
/// no UTF-8 as escapes.
#[must_use]
pub fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => {
                    text.extend(character.escape_unicode());
                }
                _ if character.is_control() => text.extend(character.escape_default()),
                _ => text.push(character),
            }
        }
        text.push_str(&chunk.invalid().escape_ascii().to_string());
    }
    text
}

/// What is known of a key in a summary.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) server: ServerId,
    pub(super) own: Own,
}

/// What a key has gathered itself.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Own {
    pub(super) samples: u32,
    pub(super) requests: u64,
    pub(super) bytes: u64,
    pub(super) largest: u64,
}

/// The heaviest keys. What they are weighed by is the caller's choice, and the same at every call.
#[derive(Debug, Clone, Default)]
pub(super) struct Summary {
    /// Hashes lie apart from the rest, to be looked through several at a time. Like the weights and the tree they are there
    /// for all places once there is a key.
    hashes: Vec<u32>,
    pub(super) weights: Vec<u64>,
    /// Who is lighter: above the places, a tree of which each node has the lighter place of the two below it. The root is
    /// the node 1.
    lighter: Vec<u8>,
    pub(super) entries: Vec<Entry>,
}

impl Summary {
    pub(super) fn touch(&mut self, hash: u32, touch: Touch<'_>, weight: u64) {
        let place = self.find(hash, touch.key).unwrap_or_else(|| self.take_place(hash, touch.key));
        self.weights[place] = self.weights[place].saturating_add(weight);
        self.weigh(place);
        let Entry { server, own, .. } = &mut self.entries[place];
        *server = touch.server;
        own.samples = own.samples.saturating_add(1);
        own.requests = own.requests.saturating_add(touch.requests);
        own.bytes = own.bytes.saturating_add(touch.bytes);
        own.largest = own.largest.max(touch.value);
    }

    fn find(&self, hash: u32, key: &[u8]) -> Option<usize> {
        let (chunks, _) = self.hashes.as_chunks::<16>();
        for (number, chunk) in chunks.iter().enumerate() {
            // Without a way out of the loop it is a few vector instructions.
            if chunk.iter().fold(false, |found, known| found | (*known == hash)) {
                let mut places = (number * 16..).zip(chunk).filter(|(_, known)| **known == hash);
                let is_it = |place: &usize| self.entries.get(*place).is_some_and(|entry| entry.key.is(key));
                if let Some(place) = places.by_ref().map(|(place, _)| place).find(is_it) {
                    return Some(place);
                }
            }
        }
        None
    }

    /// A place for a new key: a free one, or that of the lightest, whose weight it inherits.
    fn take_place(&mut self, hash: u32, key: &[u8]) -> usize {
        let place = if self.entries.len() < PLACES {
            self.hashes.resize(PLACES, 0);
            self.weights.resize(PLACES, 0);
            self.lighter.resize(PLACES, 0);
            self.entries.push(Entry { key: Key::default(), server: ServerId(0), own: Own::default() });
            self.entries.len() - 1
        } else {
            usize::from(self.lighter[1])
        };
        self.hashes[place] = hash;
        self.entries[place].key.set(key);
        self.entries[place].own = Own::default();
        place
    }

    /// A place has become heavier.
    fn weigh(&mut self, place: usize) {
        let Self { weights, lighter, .. } = self;
        let mut node = (PLACES + place) / 2;
        let pair = place & !1;
        let mut lightest = if weights[pair] <= weights[pair + 1] { pair } else { pair + 1 };
        loop {
            lighter[node] = u8::try_from(lightest).unwrap_or(0); // there are fewer places
            if node == 1 {
                return;
            }
            let beside = usize::from(lighter[node ^ 1]);
            if weights[beside] < weights[lightest] {
                lightest = beside;
            }
            node /= 2;
        }
    }

    pub(super) fn clear(&mut self) {
        self.hashes.clear();
        self.weights.clear();
        self.lighter.clear();
        self.entries.clear();
    }
}

/// The largest values.
#[derive(Debug, Clone, Default)]
pub(super) struct Largest {
    pub(super) values: Vec<(Key, ServerId, u64)>,
    /// What a value must be larger than.
    floor: u64,
}

impl Largest {
    pub(super) fn touch(&mut self, touch: Touch<'_>) {
        let Touch { key, server, value, .. } = touch;
        if value <= self.floor {
            return;
        }
        let least = |values: &[(Key, ServerId, u64)]| (0..values.len()).min_by_key(|at| values[*at].2).unwrap_or(0);
        let place = match self.values.iter().position(|known| known.0.is(key)) {
            Some(known) if self.values[known].2 >= value => return,
            Some(known) => known,
            None if self.values.len() == LARGEST => least(&self.values),
            None => {
                self.values.push((Key::default(), server, 0));
                self.values.len() - 1
            }
        };
        let entry = &mut self.values[place];
        entry.0.set(key);
        (entry.1, entry.2) = (server, value);
        if self.values.len() == LARGEST {
            self.floor = self.values[least(&self.values)].2;
        }
    }

    pub(super) fn clear(&mut self) {
        self.values.clear();
        self.floor = 0;
    }
}
