//! Conversations in four parts: what the client sends, what which server must receive, what it answers, what the client
//! must see. Between two of them not a byte may be left on any connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::client::Client;
use super::process::Proxy;
use super::wait_until;

/// Time for what must happen at once.
const SOON: Duration = Duration::from_secs(10);

/// A server that says what the test tells it to say, when it tells it.
pub(crate) struct Mock {
    listener: TcpListener,
    stream: Option<TcpStream>,
}

impl Mock {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        listener.set_nonblocking(true).expect("nonblocking");
        Self { listener, stream: None }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("address")
    }

    /// The same server, for another connection to it.
    pub(crate) fn twin(&self) -> Self {
        Self { listener: self.listener.try_clone().expect("clone"), stream: None }
    }

    fn accept(&self) -> Option<TcpStream> {
        let (stream, _) = self.listener.accept().ok()?;
        stream.set_nonblocking(false).expect("blocking");
        stream.set_nodelay(true).expect("nodelay");
        stream.set_read_timeout(Some(SOON)).expect("read timeout");
        Some(stream)
    }

    /// The connection in use; waits for one if there is none.
    fn stream(&mut self) -> &mut TcpStream {
        if self.stream.is_none() {
            wait_until("a connection to the mock server", SOON, || {
                self.stream = self.accept();
                self.stream.is_some()
            });
        }
        self.stream.as_mut().expect("a connection")
    }

    /// Reads as many bytes as are expected; they must be those.
    #[track_caller]
    pub(crate) fn receive(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        let mut found = vec![0; expected.len()];
        let mut at = 0;
        while at < found.len() {
            match self.stream().read(&mut found[at..]) {
                Ok(read) if read > 0 => at += read,
                other => {
                    panic!("the server has {} and then {other:?}; {} expected", show(&found[..at]), show(expected))
                }
            }
        }
        assert_eq!(show(&found), show(expected), "at the server");
    }

    pub(crate) fn answer(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream().write_all(bytes.as_ref()).expect("answer");
    }

    /// Closes the connection as a server does that has said all.
    pub(crate) fn close(&mut self) {
        self.stream = None;
    }

    /// Breaks the connection: the other side sees a reset.
    pub(crate) fn reset(&mut self) {
        if let Some(stream) = self.stream.take() {
            super::bad::reset(&stream);
        }
    }

    /// Whether the other side closes the connection, or has.
    #[track_caller]
    pub(crate) fn wait_for_close(&mut self) {
        let mut byte = [0];
        let read = self.stream().read(&mut byte);
        assert!(matches!(read, Ok(0)) || read.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
        self.stream = None;
    }

    /// What is there to be read, and whether somebody new wants to connect.
    fn stray(&mut self) -> Option<String> {
        if let Some(stream) = &mut self.stream {
            stream.set_nonblocking(true).expect("nonblocking");
            let mut bytes = [0; 256];
            let read = stream.peek(&mut bytes);
            stream.set_nonblocking(false).expect("blocking");
            match read {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(0) => return Some("the proxy closed the connection".to_owned()),
                Ok(count) => return Some(show(&bytes[..count])),
                Err(error) => return Some(error.to_string()),
            }
        }
        self.accept().map(|_| "a second connection".to_owned())
    }
}

/// Bytes as they can be read in a failure.
pub(crate) fn show(bytes: &[u8]) -> String {
    let shown = bytes[..bytes.len().min(600)].escape_ascii().to_string();
    if bytes.len() > 600 { format!("{shown}... ({} bytes)", bytes.len()) } else { shown }
}

/// One server's part in a case: its number, what it must receive, what it answers.
pub(crate) type Part<'a> = (usize, &'a [u8], &'a [u8]);

/// A conversation. The servers answer in the order of their parts, each after it has received its own.
pub(crate) struct Case<'a> {
    pub(crate) name: &'a str,
    pub(crate) send: &'a [u8],
    pub(crate) servers: &'a [Part<'a>],
    pub(crate) expect: &'a [u8],
}

/// A proxy before mock servers, with one client.
///
/// Keys are hashed by what stands between `<` and `>`: of three servers, `<gold>` is at
/// home on number 0, `<iron>` on 1, `<elm>` on 2.
pub(crate) struct Stage {
    pub(crate) proxy: Proxy,
    pub(crate) client: Client,
    pub(crate) servers: Vec<Mock>,
}

impl Stage {
    /// As many servers as asked for, and further lines of the pool.
    pub(crate) fn start(servers: usize, more: &[&str]) -> Self {
        let servers: Vec<_> = (0..servers).map(|_| Mock::start()).collect();
        let port = super::process::free_port();
        let mut pool = format!("pool:\n  listen: 127.0.0.1:{port}\n  distribution: modula\n  hash_tag: \"<>\"\n");
        for line in more {
            pool.push_str(&format!("  {line}\n"));
        }
        pool.push_str("  servers:\n");
        for (number, server) in servers.iter().enumerate() {
            pool.push_str(&format!("    - {}:1 s{number}\n", server.address()));
        }
        let proxy = Proxy::with_file(&pool, port);
        let client = proxy.client();
        Self { proxy, client, servers }
    }

    /// Plays one case through.
    pub(crate) fn play(&mut self, case: &Case<'_>) {
        println!("{}", case.name);
        self.client.send(case.send);
        for (server, receive, answer) in case.servers {
            self.servers[*server].receive(receive);
            self.servers[*server].answer(answer);
        }
        let found = self.client.read(case.expect.len());
        assert_eq!(show(&found), show(case.expect), "{}: at the client", case.name);
        self.check_silence(case.name);
    }

    /// Nothing may be left to read anywhere.
    pub(crate) fn check_silence(&mut self, name: &str) {
        // What was sent before an `mn` has left for the servers when the answer to it is here.
        assert_eq!(self.client.ask("mn\r\n"), "MN", "{name}: stray bytes at the client");
        assert!(self.client.rest().is_empty(), "{name}: stray bytes {}", show(self.client.rest()));
        for (number, server) in self.servers.iter_mut().enumerate() {
            if let Some(stray) = server.stray() {
                panic!("{name}: stray at server {number}: {stray}");
            }
        }
    }
}
