//! Redis pools.

mod clients;
mod differential;
