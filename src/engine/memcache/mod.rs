//! What is memcached's alone: gets of several keys, requests to all servers, and what comes back for them.

mod crawl;
mod fanout;
mod kept;
mod known_version;
mod listing;
mod merge;
mod multiget;
mod values;
mod version;

pub(super) use kept::Kept;
pub(super) use known_version::Known;
pub(super) use listing::Crawl;
pub(super) use merge::{Merge, NO_KEY, Values};
pub(super) use multiget::GAT_KEYS_LIMIT;
pub(super) use values::asked_keys;
