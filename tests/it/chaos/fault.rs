//! What goes wrong, and the server that it happens to.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::book::Speaks;
use super::tap::{Record, Tap, Trouble, transcribe};
use crate::support::process::{Process, free_port};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// kill -9, and a fresh one later.
    Killed,
    /// SIGSTOP, and SIGCONT later.
    Stopped,
    /// Something on the wire to it.
    Wire(Trouble),
    /// Connections end, and the SYNs of new ones are dropped.
    SynDropped,
    /// Packets are dropped both ways, of connections that are open as well.
    Dropped,
    /// Down for 300 ms, up for 300 ms, by kill -9 and a fresh one.
    Flapping,
    /// It has no memory left and may not evict.
    Full,
}

impl Fault {
    /// Whether it is seen on a wire; else the server itself tells what it hears, so that a dead one is really dead.
    pub(super) fn is_tapped(self) -> bool {
        !matches!(self, Self::Killed | Self::Flapping)
    }

    /// Whether connections can lie in the network and arrive when it is well again.
    pub(super) fn holds_packets_back(self) -> bool {
        matches!(self, Self::SynDropped | Self::Dropped)
    }
}

/// A memcached or a Redis, and how the proxy reaches it.
pub(super) struct Server {
    pub(super) speaks: Speaks,
    process: Process,
    tap: Option<Tap>,
    /// As the proxy knows it.
    pub(super) address: SocketAddr,
    pub(super) heard: Record,
}

/// Arguments of one that says what it hears.
const TELLING: &[&str] = &["-vv"];

/// Arguments of one that is soon full, with few sizes of chunks.
const SMALL: &[&str] = &["-m", "8", "-M", "-f", "2"];

fn start(speaks: Speaks, port: u16, more: &[&str]) -> Process {
    match speaks {
        Speaks::Memcached => Process::memcached_with(port, more, Stdio::null()),
        Speaks::Redis { .. } => Process::redis_with(port, more),
    }
}

fn telling(port: u16, heard: &Record) -> Process {
    let mut process = Process::memcached_with(port, TELLING, Stdio::piped());
    transcribe(process.take_stderr().expect("stderr"), heard);
    process
}

impl Server {
    /// One that nothing will happen to, with further arguments.
    pub(super) fn plain(speaks: Speaks, more: &[&str]) -> Self {
        let process = start(speaks, free_port(), more);
        if speaks == Speaks::Memcached {
            touch(process.address);
        }
        Self { speaks, address: process.address, process, tap: None, heard: Record::default() }
    }

    /// One that this will happen to.
    pub(super) fn before(speaks: Speaks, fault: Fault) -> Self {
        let heard = Record::default();
        if !fault.is_tapped() {
            let process = match speaks {
                Speaks::Memcached => telling(free_port(), &heard),
                Speaks::Redis { .. } => start(speaks, free_port(), &[]),
            };
            return Self { speaks, address: process.address, process, tap: None, heard };
        }
        let arguments = match (fault, speaks) {
            (Fault::Full, Speaks::Memcached) => SMALL,
            _ => &[],
        };
        let process = start(speaks, free_port(), arguments);
        let tap = Tap::to(process.address, Record::clone(&heard), speaks != Speaks::Memcached);
        Self { speaks, address: tap.address, process, tap: Some(tap), heard }
    }

    fn wire(&self, trouble: Trouble) {
        self.tap.as_ref().expect("a tapped server").set(trouble);
    }

    /// Gives a Redis so much memory; it evicts nothing by default.
    fn set_memory(&self, size: &str) {
        assert_eq!(self.process.client().ask(format!("CONFIG SET maxmemory {size}\r\n")), "+OK");
    }

    pub(super) fn break_down(&self, fault: Fault) {
        match fault {
            // Its end is not waited for: that can take a tenth of a second, and it is not the only one.
            Fault::Killed | Fault::Flapping => self.process.signal("KILL"),
            Fault::Stopped => self.process.signal("STOP"),
            Fault::Wire(trouble) => self.wire(trouble),
            Fault::SynDropped | Fault::Dropped => {
                filter("-A", fault, self.address.port());
                if fault == Fault::SynDropped {
                    self.tap.as_ref().expect("a tapped server").hang_up();
                }
            }
            Fault::Full if self.speaks == Speaks::Memcached => fill(self.process.address),
            Fault::Full => self.set_memory("1mb"),
        }
    }

    pub(super) fn recover(&mut self, fault: Fault) {
        match fault {
            Fault::Killed | Fault::Flapping => {
                self.process.kill(); // sees its end
                let port = self.process.address.port();
                self.process = if self.speaks != Speaks::Memcached {
                    start(self.speaks, port, &[])
                } else if self.tap.is_none() {
                    telling(port, &self.heard)
                } else {
                    Process::memcached_on(port)
                };
            }
            Fault::Stopped => self.process.signal("CONT"),
            Fault::Wire(_) => self.wire(Trouble::None),
            Fault::SynDropped | Fault::Dropped => filter("-D", fault, self.address.port()),
            Fault::Full if self.speaks == Speaks::Memcached => {
                assert_eq!(self.process.client().ask("flush_all\r\n"), "OK");
            }
            Fault::Full => self.set_memory("0"),
        }
    }
}

/// Breaks these servers for a while; returns when it began, and when they were well again.
pub(super) fn inflict(fault: Fault, servers: &mut [&mut Server], span: Duration) -> (Instant, Instant) {
    let begun = Instant::now();
    loop {
        servers.iter().for_each(|server| server.break_down(fault));
        let until = if fault == Fault::Flapping { Duration::from_millis(300) } else { span };
        std::thread::sleep(until);
        servers.iter_mut().for_each(|server| server.recover(fault));
        if fault != Fault::Flapping || begun.elapsed() + Duration::from_millis(600) > span {
            return (begun, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Adds (`-A`) or deletes (`-D`) the rules of the packet filter that make the fault.
fn filter(action: &str, fault: Fault, port: u16) {
    let port = port.to_string();
    let rules: &[&[&str]] = if fault == Fault::SynDropped {
        &[&["--dport", &port, "--syn"]]
    } else {
        &[&["--dport", &port], &["--sport", &port]]
    };
    for rule in rules {
        let mut command = Command::new("iptables");
        command.args([action, "INPUT", "-p", "tcp"]).args(*rule).args(["-j", "DROP"]);
        assert!(command.status().expect("iptables").success(), "iptables {action} {rule:?}");
    }
}

/// Stores and deletes a value of each size that a load has: a memcached clears a whole page of memory for the first value of
/// about a size, which can take so long that it would be measured as if it were the proxy.
fn touch(address: SocketAddr) {
    let mut stream = BufReader::new(TcpStream::connect(address).expect("connect"));
    let sizes = std::iter::successors(Some(20), |size| Some(size * 11 / 10 + 1)).take_while(|size| *size < 21_000);
    for length in sizes {
        let request = format!("set touch 0 0 {length}\r\n{}\r\ndelete touch\r\n", ".".repeat(length));
        stream.get_ref().write_all(request.as_bytes()).expect("touch");
        for wanted in ["STORED\r\n", "DELETED\r\n"] {
            let mut line = String::new();
            stream.read_line(&mut line).expect("an answer");
            assert_eq!(line, wanted);
        }
    }
}

/// Stores until nothing of any size can be stored any more, the large sizes first.
fn fill(address: SocketAddr) {
    let mut stream = BufReader::new(TcpStream::connect(address).expect("connect"));
    for length in [20_000, 12_000, 6000, 3000, 1400, 700, 300, 120, 60, 30, 8] {
        // Far more than there is room for: what a busy load deletes meanwhile must not keep this going for ever.
        for batch in 0..300 {
            let mut sets = Vec::new();
            let size = if length > 1000 { 40 } else { 400 };
            for number in 0..size {
                sets.extend_from_slice(format!("set fill:{length}:{batch}:{number} 0 0 {length}\r\n").as_bytes());
                sets.resize(sets.len() + length, b'.');
                sets.extend_from_slice(b"\r\n");
            }
            stream.get_ref().write_all(&sets).expect("fill");
            let mut full = false;
            for _ in 0..size {
                let mut line = String::new();
                stream.read_line(&mut line).expect("an answer");
                full |= line.starts_with("SERVER_ERROR out of memory");
            }
            if full {
                break;
            }
        }
    }
}
