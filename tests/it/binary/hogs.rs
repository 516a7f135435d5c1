//! Clients of the binary protocol that take more than they are given.

use std::io::Write;
use std::time::Duration;

use super::packet::{Ask, GETK, NOOP, SET, asked, told};
use crate::support::process::{Process, Proxy};

#[test]
fn who_asks_on_and_on_and_reads_nothing_is_read_no_more() {
    let server = Process::memcached();
    let proxy = Proxy::start(&[server.address], &["timeout: 2000"]);
    let before = proxy.resident();
    let mut hogs: Vec<_> = (0..4).map(|_| proxy.client()).collect();
    let block = Ask::new(GETK, "k".repeat(250)).bytes().repeat(400);
    let mut sent = 0;
    for hog in &mut hogs {
        hog.stream.set_write_timeout(Some(Duration::from_millis(500))).expect("a timeout");
        while sent < 400 << 20
            && let Ok(count) = hog.stream.write(&block)
        {
            sent += count;
        }
    }
    let grown = proxy.resident() - before;
    assert!(sent < 100 << 20, "{sent} bytes were taken");
    assert!(grown < 32 << 20, "grown by {grown} bytes for {sent} that were sent");
    let mut other = proxy.client();
    assert_eq!(asked(&mut other, &Ask::store(SET, "k", "v")).status, 0);
    other.send(Ask::new(NOOP, "").bytes());
    assert_eq!(told(&mut other).opcode, NOOP);
}
