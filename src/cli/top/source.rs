//! What `top` asks the admin port for: one `GET /servers`.

use std::time::Duration;

use super::overview::Overview;
use crate::cli::port::{self, Trouble};

/// A proxy that takes longer for its answer does not answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What the proxy at `address` has to show.
pub(super) async fn fetch(address: &str) -> Result<Overview, Trouble> {
    parse(&port::ask(address, "GET /servers", None, TIMEOUT).await?)
}

fn parse(answer: &[u8]) -> Result<Overview, Trouble> {
    let Some((200, body)) = port::parts(answer) else { return Err(Trouble::Stranger) };
    serde_json::from_slice(body)
        .map_err(|error| if error.is_syntax() { Trouble::Stranger } else { Trouble::Unreadable(error.to_string()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_admin_port_is_told_from_one_that_cannot_be_read() {
        let cases: [(&str, &[u8], Option<Trouble>); 6] = [
            ("nothing", b"", Some(Trouble::Stranger)),
            ("memcached", b"ERROR\r\n", Some(Trouble::Stranger)),
            ("another web server", b"HTTP/1.1 404 Not Found\r\n\r\n{}", Some(Trouble::Stranger)),
            ("a page", b"HTTP/1.1 200 OK\r\n\r\n<html>", Some(Trouble::Stranger)),
            ("no end of the head", b"HTTP/1.0 200 OK\r\n", Some(Trouble::Stranger)),
            (
                "the least there can be",
                b"HTTP/1.0 200 OK\r\nx: y\r\n\r\n{\"version\":\"1\",\"host\":\"h\",\"uptime_s\":1,\"workers\":1,\"buffered_bytes\":0,\"memory_limit_bytes\":1,\"pools\":[],\"events\":[],\"more\":0}",
                None,
            ),
        ];
        for (name, answer, expected) in cases {
            assert_eq!(parse(answer).err(), expected, "{name}");
        }
        assert!(matches!(parse(b"HTTP/1.0 200 OK\r\n\r\n{\"version\":\"9\"}"), Err(Trouble::Unreadable(_))));
        assert!(matches!(parse(b"HTTP/1.0 200 OK\r\n\r\n{\"version\":"), Err(Trouble::Unreadable(_))));
    }
}
