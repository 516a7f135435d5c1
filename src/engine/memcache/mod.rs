//! What is memcached's alone: gets of several keys, requests to all servers, and what comes back for them.

mod copies;
mod crawl;
mod fanout;
mod kept;
mod known_version;
mod leases;
mod listed;
mod listing;
mod merge;
mod multiget;
mod near;
mod requests;
mod values;
mod version;

pub(super) use kept::Kept;
pub(super) use known_version::Known;
pub(super) use listing::Crawl;
pub(super) use merge::{Merge, NO_KEY, Values};
pub(super) use requests::{FRUGAL_VALUE_LIMIT, class_of};
pub(super) use values::asked_keys;
