//! What a client has sent, told to it again: a large word out of the buffer that it came in, a portion at a time.

use super::client::Replies;
use crate::engine::Engine;
use crate::engine::clients::output::Source;
use crate::engine::ids::SessionId;
use crate::engine::shared::Shared;
use crate::proto::resp::encode;

/// A large word on its way back.
#[derive(Debug)]
struct Echo {
    word: Shared,
    told: usize,
}

impl Source for Echo {
    fn write(&mut self, out: &mut Vec<u8>, about: usize) -> bool {
        let rest = &self.word[self.told..];
        let portion = &rest[..rest.len().min(about.max(1))];
        out.extend_from_slice(portion);
        self.told += portion.len();
        portion.len() < rest.len()
    }

    fn left(&self) -> usize {
        self.word.len() - self.told
    }

    fn footprint(&self) -> usize {
        self.word.footprint()
    }
}

impl Engine {
    /// Answers a request with a word of it.
    pub(super) fn say_again(&mut self, id: SessionId, word: &[u8]) {
        let whole = self.whole_request(word).map(|word| Echo { word, told: 0 });
        if let Some(echo) = whole
            && self.redis(id).is_some_and(|client| client.replies == Replies::On)
            && let Some(session) = self.session(id).filter(|session| session.requests.is_empty())
        {
            session.output.append_with(encode::HEAD, |out| encode::bulk_head(out, word.len()));
            session.output.append_from(Box::new(echo));
            session.output.append(b"\r\n");
            self.touch_session(id);
            return;
        }
        let mut body = Vec::with_capacity(word.len() + encode::HEAD);
        encode::bulk(&mut body, word);
        self.say(id, &body);
    }
}
