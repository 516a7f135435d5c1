//! Values that are asked for often are kept in the process, and given out from there
//! ([`near_cache`](crate::config::model::Pool::near_cache), [`near`](crate::near)).
//!
//! A get is looked at before it is sent ([`lookup`]). A key of which nothing is kept, and which is asked for again before
//! `ttl` is over, is fetched ([`fetch`]): by a request of the proxy's own, behind the client's, which also asks how long the
//! value has still to live. So what clients get from servers takes the way that it always does, and what is seldom asked for
//! costs nothing more. What changes something is noted when it is sent on, and when it has ended ([`changes`]).
//!
//! Where a key's server is out, what is kept may be given out for longer: at once where nobody can be asked, and otherwise in
//! the place of a miss ([`stand_in`]).
//!
//! - A client that has sent something which may change something, and has not been answered, is given nothing from here: it
//!   is to read what it has written, whatever other clients may still be given.
//! - Nor is one that watches keys: what it reads has to be what it watches.

mod changes;
mod fetch;
mod lookup;
mod stand_in;
mod state;
#[cfg(test)]
mod tests;

pub(super) use state::Nears;
