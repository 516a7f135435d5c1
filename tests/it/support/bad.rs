//! Servers that misbehave on purpose, and ones that say who they are.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// A server of which each connection is handled by a function, on a thread of its own.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
}

impl Scripted {
    pub(crate) fn start(handle: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let handle = Arc::new(handle);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let handle = Arc::clone(&handle);
                std::thread::spawn(move || handle(stream));
            }
        });
        Self { address }
    }

    /// Answers every request line with `answer`, which is given the line.
    pub(crate) fn answering(answer: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::start(move |mut stream| {
            let mut buffer = Vec::new();
            while let Some(line) = read_line(&mut stream, &mut buffer) {
                if stream.write_all(&answer(&line)).is_err() {
                    break;
                }
            }
        })
    }

    /// Accepts and answers nothing.
    pub(crate) fn silent() -> Self {
        Self::start(|mut stream| {
            let mut sink = [0; 4096];
            while stream.read(&mut sink).is_ok_and(|read| read > 0) {}
        })
    }

    /// Accepts and closes at once.
    pub(crate) fn closing() -> Self {
        Self::start(drop)
    }

    /// Reads a line, then breaks the connection.
    pub(crate) fn resetting() -> Self {
        Self::start(|mut stream| {
            if read_line(&mut stream, &mut Vec::new()).is_some() {
                reset(&stream);
            }
        })
    }

    /// Reads a line, then closes.
    pub(crate) fn hanging_up() -> Self {
        Self::start(|mut stream| {
            // All of what was sent, or the close would become a reset.
            let mut sink = [0; 4096];
            let _ = stream.read(&mut sink);
        })
    }

    /// Answers a get with the right value, one byte each 20 ms.
    pub(crate) fn dripping() -> Self {
        Self::start(|mut stream| {
            let mut buffer = Vec::new();
            while let Some(line) = read_line(&mut stream, &mut buffer) {
                for byte in value_of(&line, &"x".repeat(200)) {
                    std::thread::sleep(Duration::from_millis(20));
                    if stream.write_all(&[byte]).is_err() {
                        return;
                    }
                }
            }
        })
    }

    /// Answers each get with half a value, then closes.
    pub(crate) fn truncating() -> Self {
        Self::start(|mut stream| {
            let mut buffer = Vec::new();
            if let Some(line) = read_line(&mut stream, &mut buffer) {
                let whole = value_of(&line, &"x".repeat(100));
                let _ = stream.write_all(&whole[..whole.len() / 2]);
            }
        })
    }
}

/// Has the close of a connection reset it.
pub(crate) fn reset(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("linger");
}

/// The response to a get, with this value for each key; or to `version`, which servers are asked as well.
pub(crate) fn value_of(line: &[u8], value: &str) -> Vec<u8> {
    if line == b"version" {
        return b"VERSION 1.6.18\r\n".to_vec();
    }
    let mut response = Vec::new();
    for key in line.split(|byte| *byte == b' ').skip(1) {
        response.extend_from_slice(&[b"VALUE ", key].concat());
        response.extend_from_slice(format!(" 0 {}\r\n{value}\r\n", value.len()).as_bytes());
    }
    response.extend_from_slice(b"END\r\n");
    response
}

/// A line without its end; `None` at the end of the stream.
pub(crate) fn read_line(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            return Some(line.trim_ascii_end().to_vec());
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk) {
            Ok(read) if read > 0 => buffer.extend_from_slice(&chunk[..read]),
            _ => return None,
        }
    }
}
