//! Keys that are missed are computed once ([`stampede`](crate::config::model::Pool::stampede)).
//!
//! Whoever misses a key asks its server for the lease of it ([`proto::lease`](crate::proto::lease)). Who gets that is told
//! the miss, and computes. The others wait: their requests are held where they are, answered by nobody ([`hold`]), and all of
//! a worker that wait for a key look together whether it is there ([`poll`]): every so often, and whenever something is stored
//! or removed that passes here. When it is there, what was held is asked once more, as it was ([`flow`]). So a value takes the
//! same way to its client whether that has waited or not.
//!
//! - A look is a request for the lease and then one whether the key is there. Whoever stores a value ends the lease behind it.
//!   So who gets a lease and does not find the key is told the miss rightly.
//! - Who has a lease waits for nothing that they have asked together with it: two who each compute what the other one waits for
//!   would wait until both have waited for too long. For that reason, too, a request waits for its keys one after the other, in the
//!   same order everywhere, and asks for the other leases when it has the first.
//! - A client that has sent something behind its request that may change something is told the miss at once: it must not be
//!   given what it has stored later.

mod awaited;
mod flow;
mod former;
mod held;
mod hold;
mod lease;
mod poll;
mod state;

pub(super) use state::Stampede;
