//! Requests to an admin port, word for word.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The status line and the headers.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Sends a request with these headers (`Name: value`); `Host` is the port's address unless one of them is another.
pub(crate) fn ask(admin: SocketAddr, method: &str, path: &str, headers: &[&str]) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|header| header.starts_with("Host:")) {
        request.push_str(&format!("Host: {admin}\r\n"));
    }
    headers.iter().for_each(|header| request.push_str(&format!("{header}\r\n")));
    if method == "POST" {
        request.push_str("Content-Length: 0\r\n");
    }
    let mut stream = TcpStream::connect(admin).expect("the admin port");
    stream.write_all(format!("{request}\r\n").as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

pub(crate) fn get(admin: SocketAddr, path: &str) -> Answer {
    ask(admin, "GET", path, &[])
}

pub(crate) fn post(admin: SocketAddr, path: &str) -> Answer {
    ask(admin, "POST", path, &[])
}
