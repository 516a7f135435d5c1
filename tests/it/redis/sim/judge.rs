//! What clients are told, and whether it can be so.

#![expect(clippy::wildcard_enum_match_arm, reason = "the cases that matter are named, the others are alike")]

use softmiss::proto::resp::reply::{self, Reply, Scan, Scanned};
use softmiss::time::Instant;

use super::client::Asked;
use super::world::{CLIENTS, World};
use super::{show, text};

impl World {
    pub(super) fn read_answers(&mut self) {
        for at in 0..CLIENTS {
            let session = self.customers[at].session;
            let output = self.engine.client_output(session).to_vec();
            self.engine.client_wrote(session, output.len(), Instant::from_nanos(self.now));
            self.customers[at].input.extend_from_slice(&output);
            while let Scanned::Complete { len } = Scan::new(1).advance(&self.customers[at].input) {
                let frame: Vec<u8> = self.customers[at].input.drain(..len).collect();
                self.judge(at, &frame);
            }
        }
        self.carry_out();
    }

    pub(super) fn judge(&mut self, at: usize, frame: &[u8]) {
        let words: Vec<Vec<u8>> = match reply::read(frame) {
            Reply::List(items) => items.map(text).collect(),
            _ => Vec::new(),
        };
        let customer = &mut self.customers[at];
        if words.first().is_some_and(|word| word == b"message") && frame[0] != b'$' {
            let (channel, message) =
                (String::from_utf8_lossy(&words[1]).into_owned(), String::from_utf8_lossy(&words[2]).into_owned());
            assert!(message.starts_with(&format!("{channel}|")), "another channel's: {message}");
            assert!(customer.heard.insert(message), "a message comes twice");
            self.count("messages");
            return;
        }
        let (asked, since) = customer.asked.pop_front().unwrap_or_else(|| panic!("nobody asked for {}", show(frame)));
        if let Asked::Subscribed(count) = asked {
            assert!(words[0].ends_with(b"subscribe"), "{}", show(frame));
            if count > 1 {
                customer.asked.push_front((Asked::Subscribed(count - 1), since));
            }
            return;
        }
        if let Asked::Pop(_) = asked
            && !customer.asked.is_empty()
        {
            let now = Instant::from_nanos(self.now);
            customer.asked.iter_mut().for_each(|(_, since)| *since = now);
        }
        self.check(&asked, frame);
    }

    pub(super) fn check(&mut self, asked: &Asked, frame: &[u8]) {
        if frame[0] == b'-' {
            let told = String::from_utf8_lossy(frame).into_owned();
            let has_none = matches!(asked, Asked::Push);
            assert!(self.errors || has_none, "an error in miss mode: {told}");
            self.count("errors");
            return;
        }
        let read = reply::read(frame);
        match (asked, read) {
            (Asked::Get(_), Reply::Null) => self.count("misses"),
            (Asked::Get(name), Reply::Bulk(value)) => {
                assert!(value.starts_with(format!("{name}|").as_bytes()), "{} for {name}", show(value));
                self.count("hits");
            }
            (Asked::Mget(names), Reply::List(items)) => {
                assert_eq!(items.len(), names.len());
                for (name, value) in names.iter().zip(items) {
                    self.check(&Asked::Get(name.clone()), value);
                }
            }
            (Asked::Exec(parts), Reply::List(items)) => {
                assert_eq!(items.len(), parts.len());
                for (part, value) in parts.iter().zip(items) {
                    self.check(part, value);
                }
                self.count("transactions");
            }
            (Asked::Set, Reply::Simple(b"OK") | Reply::Null) | (Asked::Ok, Reply::Simple(b"OK" | b"RESET")) => {}
            (Asked::Queued, Reply::Simple(b"QUEUED")) => {}
            (Asked::Count(most), Reply::Integer(count)) => assert!((0..=*most).contains(&count)),
            (Asked::Push | Asked::Published, Reply::Integer(_)) | (Asked::Pop(_), Reply::Null) => {}
            (Asked::Pop(queue), Reply::List(items)) => {
                let words: Vec<_> = items.map(text).collect();
                assert_eq!(words[0], queue.as_bytes());
                assert!(words[1].starts_with(format!("{queue}|").as_bytes()));
                assert!(self.popped.insert(words[1].clone()), "a job is done twice");
                self.count("jobs");
            }
            (asked, _) => panic!("{} is no answer to {asked:?}", show(frame)),
        }
    }
}
