//! A plain blocking client that knows nothing of the code under test.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A connection, and what has been read from it and not used.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect(address).expect("connect"))
    }

    /// Of a connection that is there.
    pub(crate) fn of(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("nodelay");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("read timeout");
        stream.set_write_timeout(Some(Duration::from_secs(10))).expect("write timeout");
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("send");
    }

    /// Reads exactly `count` bytes.
    pub(crate) fn read(&mut self, count: usize) -> Vec<u8> {
        let mut chunk = vec![0; 64 << 10];
        while self.buffer.len() < count {
            let read = self.stream.read(&mut chunk).unwrap_or_else(|error| {
                panic!("{error} after {:?}", String::from_utf8_lossy(&self.buffer[..self.buffer.len().min(500)]))
            });
            assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&self.buffer[..self.buffer.len().min(500)]));
            self.buffer.extend_from_slice(&chunk[..read]);
        }
        self.buffer.drain(..count).collect()
    }

    /// Reads through `end`.
    pub(crate) fn read_through(&mut self, end: &[u8]) -> Vec<u8> {
        let mut chunk = vec![0; 64 << 10];
        let mut searched = 0;
        loop {
            if let Some(at) = memchr::memmem::find(&self.buffer[searched..], end) {
                return self.buffer.drain(..searched + at + end.len()).collect();
            }
            searched = self.buffer.len().saturating_sub(end.len());
            let read = self.stream.read(&mut chunk).unwrap_or_else(|error| {
                panic!("{error} after {:?}", String::from_utf8_lossy(&self.buffer[..self.buffer.len().min(500)]))
            });
            assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&self.buffer[..self.buffer.len().min(500)]));
            self.buffer.extend_from_slice(&chunk[..read]);
        }
    }

    /// A line without its end; `None` when there is none before the connection's end or the time limit of reading.
    pub(crate) fn try_line(&mut self) -> Option<String> {
        let mut chunk = [0; 1024];
        loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).collect();
                return Some(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            match self.stream.read(&mut chunk) {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.buffer.extend_from_slice(&chunk[..read]),
            }
        }
    }

    /// A line without its end.
    pub(crate) fn line(&mut self) -> String {
        let line = self.read_through(b"\r\n");
        String::from_utf8_lossy(&line[..line.len() - 2]).into_owned()
    }

    /// Sends a request and reads one line.
    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>) -> String {
        self.send(request);
        self.line()
    }

    /// Sends a request and reads one line; also tells how long that took.
    pub(crate) fn ask_timed(&mut self, request: impl AsRef<[u8]>) -> (String, Duration) {
        let start = Instant::now();
        let line = self.ask(request);
        (line, start.elapsed())
    }

    /// Sends bytes, then a `version` to mark the end; returns what came before the answer to it.
    pub(crate) fn exchange(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.send(bytes);
        self.send(b"version\r\n");
        let mut read = self.read_through(b"VERSION 1.6.18");
        read.truncate(read.len() - b"VERSION 1.6.18".len());
        self.read_through(b"\r\n");
        read
    }

    /// Whether the other side has closed, or does so soon.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        loop {
            match self.stream.read(&mut byte) {
                Ok(0) => return true,
                Ok(_) => self.buffer.push(byte[0]),
                Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    }

    /// What has been read and not used.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.buffer
    }
}
