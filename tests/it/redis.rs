//! Redis pools.

mod clients;
mod conformance;
mod connections;
mod counted;
mod dedicated;
mod differential;
mod fallback;
mod guards;
mod malformed;
mod neighbours;
mod order;
mod patterns;
mod scripts;
mod sim;
mod subscriptions;
mod table;
mod waits;
