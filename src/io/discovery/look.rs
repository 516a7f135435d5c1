//! How each kind of source is asked. Nothing here takes longer than it may, whatever is answered, or not.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};

use super::state::{Failed, Look};
use super::{endpoint, services};
use crate::config::discovery::{Answer, Source, name_of, server};
use crate::config::listing;
use crate::config::model::Server;
use crate::io::watch::{FileState, PERIOD, Watcher};

/// Threads that may wait for the system's resolver at the same time, and for files. There are others for what depends on neither.
const MOST_RESOLVERS: usize = 8;
const MOST_READERS: usize = 4;
pub(super) const MOST_THREADS: usize = MOST_RESOLVERS + MOST_READERS + 4;
static RESOLVERS: Semaphore = Semaphore::const_new(MOST_RESOLVERS);
static READERS: Semaphore = Semaphore::const_new(MOST_READERS);

/// How long a source may take to answer.
const LIMIT: Duration = Duration::from_secs(5);

/// What is kept of a source from one time to the next.
#[derive(Debug, Default)]
pub(super) struct Asked {
    lookup: Errand<io::Result<Vec<IpAddr>>>,
    name_servers: Errand<io::Result<String>>,
    file: Watched,
}

/// Something that the system may take any time for, on a thread of its own. What has not come to its end is waited for again the
/// next time, so there is one of its kind at most.
#[derive(Debug)]
struct Errand<T>(Option<JoinHandle<T>>);

impl<T> Default for Errand<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Send + 'static> Errand<T> {
    /// Does it, when it is one of so many's turn. Why nothing came of that in time, if so.
    async fn run(&mut self, turns: &'static Semaphore, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
        let task = match &mut self.0 {
            Some(task) => task,
            none => {
                let turn = within(async { turns.acquire().await.map_err(|error| error.to_string()) }).await?;
                none.insert(spawn_blocking(move || {
                    let _turn = turn;
                    work()
                }))
            }
        };
        let Ok(result) = timeout(LIMIT, task).await else { return Err(unanswered()) };
        self.0 = None;
        result.map_err(|error| error.to_string())
    }
}

/// A file that is read when it has changed.
#[derive(Debug, Default)]
struct Watched {
    watcher: Watcher,
    read: Option<FileState>,
    was_read: bool,
    look: Errand<Option<FileState>>,
    reading: Errand<(Option<FileState>, Result<String, String>)>,
}

impl Asked {
    /// Asks a source. A file answers when it has changed.
    pub(super) async fn look(&mut self, source: &Source) -> Result<Look, Failed> {
        let servers = |answer: Vec<Server>| Look { answer: Answer::Servers(answer), version: 0, is_settled: false };
        let because = |reason: String| Failed::Because(reason);
        match source {
            Source::Name(name) => {
                let at = self.addresses(name).await.map_err(because)?;
                Ok(Look { answer: Answer::Addresses { at, is_moved: false }, version: 0, is_settled: false })
            }
            Source::Records(name) => {
                let addresses: BTreeSet<IpAddr> = self.addresses(name).await.map_err(because)?.into_iter().collect();
                let of = |address: &IpAddr| server(address.to_string(), address.to_string(), 0);
                Ok(servers(addresses.iter().map(of).collect()))
            }
            Source::Services(name) => {
                let read = || std::fs::read_to_string(services::FILE);
                let servers_of = self.name_servers.run(&READERS, read).await;
                let told = |reason| because(format!("{}: {reason}", services::FILE));
                let text = servers_of.and_then(|text| text.map_err(|error| error.to_string())).map_err(told)?;
                let targets = within(services::look(&text, name)).await.map_err(because)?;
                Ok(servers(targets.into_iter().map(|(host, port)| server(name_of(&host, port), host, port)).collect()))
            }
            Source::File(path) => {
                let answer = Answer::Servers(self.file.servers(path, listing::text).await?);
                Ok(Look { answer, version: 0, is_settled: true })
            }
            Source::Endpoint(endpoint) => {
                let at = self.addresses(&endpoint.host).await.map_err(because)?;
                let at: Vec<_> = at.into_iter().map(|address| SocketAddr::new(address, endpoint.port)).collect();
                let cluster = within(endpoint::look(&at)).await.map_err(because)?;
                let of = |node: endpoint::Node| {
                    let name = name_of(&node.name, node.port);
                    server(name, node.host, node.port)
                };
                let answer = Answer::Servers(cluster.nodes.into_iter().map(of).collect());
                Ok(Look { answer, version: cluster.version, is_settled: false })
            }
        }
    }

    /// The addresses that a name stands for, one at least, and none that is of no use without its interface. A look-up that takes long is waited for again the next time, so
    /// there is one of a name at most.
    async fn addresses(&mut self, name: &str) -> Result<Vec<IpAddr>, String> {
        if let Ok(address) = name.parse() {
            return Ok(vec![address]);
        }
        let asked = name.to_owned();
        match self.lookup.run(&RESOLVERS, move || addresses(&asked)).await? {
            Ok(all) if all.is_empty() => Err("the name has no address".to_owned()),
            Ok(mut all) => {
                all.retain(|address| !is_of_link(address));
                let none = || "the name has only an address of a link, which is looked up for each connection";
                if all.is_empty() { Err(none().to_owned()) } else { Ok(all) }
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Whether an address says where something is only together with the interface by which it is reached.
pub(super) fn is_of_link(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// What the system's resolver says of a name, each address once. It may take as long as it likes.
fn addresses(name: &str) -> io::Result<Vec<IpAddr>> {
    let mut all: Vec<IpAddr> = Vec::new();
    for address in (name, 0).to_socket_addrs()?.map(|found| found.ip().to_canonical()) {
        if !all.contains(&address) {
            all.push(address);
        }
    }
    Ok(all)
}

impl Watched {
    /// What the file lists: at once the first time, and then when it has changed, and has been quiet for a second. One that
    /// could not be read is read again after as long.
    async fn servers(&mut self, path: &Path, text: fn(&Path) -> Result<String, String>) -> Result<Vec<Server>, Failed> {
        while self.was_read {
            let of = path.to_owned();
            let now = self.look.run(&READERS, move || FileState::of(&of)).await;
            let now = now.map_err(|reason| self.is_to_be_read_again(reason))?;
            if self.watcher.look([now, self.read]) {
                break;
            }
            sleep(PERIOD).await;
        }
        self.was_read = true;
        let (name, of) = (path.display().to_string(), path.to_owned());
        let read = self.reading.run(&READERS, move || (FileState::of(&of), text(&of))).await;
        let read = read.and_then(|(state, text)| Ok((state, text?)));
        let (state, text) = read.map_err(|reason| self.is_to_be_read_again(reason))?;
        self.read = state;
        listing::parse(&name, &text).map_err(|report| match &report.diagnostics[..] {
            [only] if only.span.is_none() => Failed::Because(only.message.clone()),
            _ => Failed::File(report),
        })
    }
}

impl Watched {
    /// It could not be read, for a reason that may be over without a trace.
    fn is_to_be_read_again(&mut self, reason: String) -> Failed {
        (self.read, self.watcher) = (None, Watcher::default());
        Failed::Because(reason)
    }
}

async fn within<T>(look: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    timeout(LIMIT, look).await.unwrap_or_else(|_| Err(unanswered()))
}

fn unanswered() -> String {
    format!("no answer within {} s", LIMIT.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_link_is_left_to_who_knows_its_interface() {
        let looked_up = |all: &[&str]| {
            let all: Vec<IpAddr> = all.iter().map(|address| address.parse().unwrap()).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut asked = Asked { lookup: Errand(Some(spawn_blocking(move || Ok(all)))), ..Asked::default() };
                asked.addresses("a.name").await.map(|all| all.iter().map(IpAddr::to_string).collect::<Vec<_>>())
            })
        };
        assert_eq!(
            looked_up(&["fe80::1", "fd00::1", "10.0.0.1"]),
            Ok(vec!["fd00::1".to_owned(), "10.0.0.1".to_owned()])
        );
        assert!(looked_up(&["fe80::1"]).unwrap_err().contains("of a link"));
        assert!(looked_up(&[]).unwrap_err().contains("no address"));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_read_again_though_it_has_not_changed() {
        let file = std::env::temp_dir().join(format!("softmiss-listing-{}", std::process::id()));
        std::fs::write(&file, "10.0.0.1:1:1\n").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut watched = Watched::default();
            let failed = watched.servers(&file, |_| Err("too many open files".to_owned())).await;
            assert!(matches!(failed, Err(Failed::Because(reason)) if reason == "too many open files"));
            let again = timeout(Duration::from_secs(20), watched.servers(&file, listing::text)).await;
            assert_eq!(again.expect("in time").expect("a good file").len(), 1);
        });
        std::fs::remove_file(&file).unwrap();
    }

    /// Somebody who does not come to an end.
    static GATE: std::sync::Mutex<()> = std::sync::Mutex::new(());

    #[test]
    fn a_file_that_is_not_read_to_its_end_holds_up_nobody() {
        let file = std::env::temp_dir().join(format!("softmiss-hanging-{}", std::process::id()));
        std::fs::write(&file, "10.0.0.1:1:1\n").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let closed = GATE.lock().unwrap();
        runtime.block_on(async {
            let (mut hanging, mut other) = (Watched::default(), Watched::default());
            let gated = |path: &Path| {
                drop(GATE.lock().unwrap());
                listing::text(path)
            };
            let (failed, read) = tokio::join!(hanging.servers(&file, gated), other.servers(&file, listing::text));
            assert!(matches!(failed, Err(Failed::Because(reason)) if reason == unanswered()));
            assert_eq!(read.expect("a good file").len(), 1);
            drop(closed);
            let again = timeout(Duration::from_secs(20), hanging.servers(&file, gated)).await;
            assert_eq!(again.expect("in time").expect("a good file").len(), 1);
        });
        std::fs::remove_file(&file).unwrap();
    }
}
