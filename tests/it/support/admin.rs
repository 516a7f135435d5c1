//! Asking an admin port.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// The body of the answer to a GET, as JSON.
pub(crate) fn json(admin: SocketAddr, path: &str) -> serde_json::Value {
    let mut stream = TcpStream::connect(admin).expect("the admin port");
    let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}
