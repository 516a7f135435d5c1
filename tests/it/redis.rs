//! Redis pools.

mod clients;
mod conformance;
mod connections;
mod counted;
mod dedicated;
mod differential;
mod fallback;
mod guards;
mod neighbours;
mod order;
mod patterns;
mod sim;
mod subscriptions;
mod table;
mod waits;
