//! What was written last of each key, wherever: what is brought along to a server that was added must be that.

use super::store::{COPY, Deed, KEYS, Key, Outcome, Store};

/// What was written last of a key: its flags and its value, if it is not gone; and by which server that was carried out.
#[derive(Debug, Clone, Default)]
struct Written {
    item: Option<(u32, Vec<u8>)>,
    by: usize,
}

/// For each key what was written last.
#[derive(Debug)]
pub(super) struct Newest(Vec<Written>);

impl Default for Newest {
    fn default() -> Self {
        Self(vec![Written::default(); KEYS])
    }
}

impl Newest {
    /// A server has carried out a command, and has this now.
    pub(super) fn executed(
        &mut self,
        store: &Store,
        homes: &[usize],
        server: usize,
        deed: &Deed<'_>,
    ) -> Result<(), String> {
        let at_home = |key: Key| homes[key.index()] == server;
        let now = |key| store.get(key).map(|item| (item.flags, item.value.clone()));
        match (deed.verb, deed.key) {
            ("flush_all", _) => {
                for newest in self.0.iter_mut().filter(|newest| newest.by == server) {
                    newest.item = None;
                }
            }
            // Elsewhere it may be the proxy that has a former home forget the key.
            ("delete" | "md", Some(key)) if at_home(key) => self.0[key.index()] = Written { item: None, by: server },
            (COPY, Some(key)) if deed.outcome == Outcome::Done && now(key) != self.0[key.index()].item => {
                let newest =
                    self.0[key.index()].item.as_ref().map(|(_, value)| super::short(&value[..value.len().min(30)]));
                return Err(format!(
                    "{key}: {} is brought along, where {newest:?} was written last",
                    super::short(deed.block)
                ));
            }
            ("set" | "add" | "replace" | "append" | "prepend" | "cas" | "ms" | "incr" | "ma", Some(key))
                if matches!(deed.outcome, Outcome::Done | Outcome::Told)
                    // What was on its way when the key moved comes before what has been written at a later home: keys move only
                    // to servers that are added.
                    && server >= self.0[key.index()].by =>
            {
                self.0[key.index()] = Written { item: now(key), by: server };
            }
            _ => {}
        }
        Ok(())
    }
}
