//! Readers of the admin port and of the statistics port: so many at a time. One who comes when there are so many takes the
//! place of the one who has been idle for longest, so that nobody who only keeps a connection shuts out a health check.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

/// The readers of one port.
#[derive(Debug)]
pub(crate) struct Readers {
    most: usize,
    state: Mutex<State>,
    /// Somebody has left, or has become idle.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// What happens is numbered, to tell what was earlier.
    number: u64,
    readers: HashMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    /// Number of the last thing that happened to it.
    used: u64,
    /// It is being answered.
    is_busy: bool,
    connection: Option<AbortHandle>,
}

impl State {
    fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }
}

/// One reader. It has its place until this is dropped.
#[derive(Debug)]
pub(crate) struct Reader {
    id: u64,
    readers: Arc<Readers>,
}

/// The next who connects to a port, as long as it is this process that `serves`: while another one takes over, both have the
/// listener, and figures of the two in turn would go back and forth.
pub(crate) async fn accept(
    listener: &TcpListener,
    serves: &mut watch::Receiver<bool>,
) -> io::Result<(TcpStream, SocketAddr)> {
    loop {
        let _ = serves.wait_for(|serves| *serves).await; // without anybody who could say so, it does
        tokio::select! {
            accepted = listener.accept() => return accepted,
            Ok(()) = serves.changed() => {}
        }
    }
}

impl Readers {
    /// Room for so many.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, state: Mutex::default(), changed: Notify::new() })
    }

    /// A place for one more, once there is one. Waits only while all others are being answered.
    pub(crate) async fn admit(self: &Arc<Self>) -> Reader {
        loop {
            let changed = self.changed.notified();
            if let Some((reader, displaced)) = self.try_admit() {
                if displaced {
                    tokio::task::yield_now().await; // so that the connection of the other one is closed
                }
                return reader;
            }
            changed.await;
        }
    }

    /// A place, if there is one, and whether it was somebody's.
    fn try_admit(self: &Arc<Self>) -> Option<(Reader, bool)> {
        let mut state = self.lock();
        let is_full = state.readers.len() >= self.most;
        if is_full {
            let idle = state.readers.iter().filter(|(_, entry)| !entry.is_busy && entry.connection.is_some());
            let oldest = *idle.min_by_key(|(_, entry)| entry.used)?.0;
            if let Some(Entry { connection: Some(connection), .. }) = state.readers.remove(&oldest) {
                connection.abort();
            }
        }
        let id = state.next();
        state.readers.insert(id, Entry { used: id, is_busy: false, connection: None });
        Some((Reader { id, readers: Arc::clone(self) }, is_full))
    }

    /// Serves the connection of a reader on the runtime at hand.
    pub(crate) fn spawn(&self, id: u64, serve: impl Future<Output = ()> + Send + 'static) {
        let connection = tokio::spawn(serve).abort_handle();
        if let Some(entry) = self.lock().readers.get_mut(&id) {
            entry.connection = Some(connection);
        }
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// Its name among the readers.
    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    /// It is being answered, and keeps its place; or no longer.
    pub(crate) fn is_busy(&self, is_busy: bool) {
        let mut state = self.readers.lock();
        let used = state.next();
        if let Some(entry) = state.readers.get_mut(&self.id) {
            (entry.used, entry.is_busy) = (used, is_busy);
        }
        drop(state);
        if !is_busy {
            self.readers.changed.notify_one();
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.readers.lock().readers.remove(&self.id);
        self.readers.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Comes in, and stays for ever.
    async fn stay(readers: &Arc<Readers>) -> (u64, Arc<Reader>) {
        let reader = Arc::new(readers.admit().await);
        let (id, kept) = (reader.id(), Arc::clone(&reader));
        readers.spawn(id, async move {
            let _kept = kept;
            std::future::pending::<()>().await;
        });
        (id, reader)
    }

    fn ids(readers: &Readers) -> Vec<u64> {
        let mut ids: Vec<_> = readers.lock().readers.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    #[tokio::test]
    async fn who_has_been_idle_for_longest_makes_room_and_who_is_answered_does_not() {
        let readers = Readers::new(3);
        let (first, busy) = stay(&readers).await;
        let (second, used) = stay(&readers).await;
        let (third, _) = stay(&readers).await;
        busy.is_busy(true);
        used.is_busy(true);
        used.is_busy(false); // it was asked later than the third
        let (fourth, _) = stay(&readers).await;
        assert_eq!(ids(&readers), [first, second, fourth]);
        let (fifth, _) = stay(&readers).await;
        assert_eq!(ids(&readers), [first, fourth, fifth]);
        let _ = third;
    }

    #[tokio::test]
    async fn when_all_are_answered_the_next_one_waits_for_one_of_them() {
        let readers = Readers::new(1);
        let (first, busy) = stay(&readers).await;
        busy.is_busy(true);
        let waiting = Arc::clone(&readers);
        let next = tokio::spawn(async move { stay(&waiting).await.0 });
        tokio::task::yield_now().await;
        assert_eq!(ids(&readers), [first]);
        busy.is_busy(false);
        let next = next.await.unwrap();
        assert_eq!(ids(&readers), [next]);
    }
}
