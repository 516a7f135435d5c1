//! Keys that have moved to another server bring along what is stored of them ([`Warming`](crate::topology::Warming)).
//!
//! After a change of a pool's servers, a request for a key that has moved waits until the key has been looked for at its new
//! home, and if it is not there, at its former one, and what was found there has been stored at the new one ([`copy`]). Then
//! the request goes its usual way. That is done once for each key and worker. Whoever writes such a key has its former homes
//! forget it, by a pending invalidation ([`invalidate`](super::invalidate)), so that nobody is given there afterwards what
//! was there before.
//!
//! What is copied must not come behind a write that its client has heard of:
//! - A key is copied only when all workers have gone over to the new topology and everything is over that they had under
//!   way before. What is found at a former home then is the last that was written there.
//! - Who writes a key tells its former homes first, then marks the key's group as written ([`Copies`]). A copy that was read
//!   before the former home was told sees the mark, and is not stored; one that is read later does not find the key.
//! - A copy that is about to be stored when the mark is made is waited for: the write comes behind it.
//!
//! Another process cannot be told that way. So who copies a key says so at its new home before anything is read, in an item
//! that names them ([`sign`](Key::sign)). Who removes a key, or changes it, waits until the former home has forgotten it, then
//! asks at the new home, and waits as long as somebody copies the key. What overwrites a key need not: a copy is stored only
//! where nothing is.
//!
//! [`Copies`]: crate::topology::Copies

mod copy;
mod flow;
mod key;
mod moving;
mod pool;
mod tell;
mod waits;

#[cfg(test)]
mod tests;

pub(super) use key::{Access, Key};
pub(super) use pool::Warm;
pub(super) use waits::Warmup;
