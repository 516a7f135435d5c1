//! What Redis says of requests that it cannot make sense of, as 7.0.15 says it; without the leading `-`.

use super::Command;
use crate::proto::resp::args::Args;

/// A request that does not have the form that its command asks for.
pub const SYNTAX: &[u8] = b"ERR syntax error";

/// Bytes of a request's words that are repeated in an error.
const REPEATED: usize = 128;

/// What is repeated of a word: Redis prints it as a C string, which ends at a zero byte.
fn repeated(word: &[u8], room: usize) -> &[u8] {
    let word = &word[..word.len().min(room)];
    &word[..memchr::memchr(0, word).unwrap_or(word.len())]
}

/// A command of no known name. Words are repeated until 128 bytes are full.
#[must_use]
pub fn unknown_command(args: Args<'_>) -> Vec<u8> {
    let name = repeated(args.get(0), REPEATED);
    let mut text = [b"ERR unknown command '", name, b"', with args beginning with: "].concat();
    let before = text.len();
    for word in args.iter().skip(1) {
        let used = text.len() - before;
        if used >= REPEATED {
            break;
        }
        text.push(b'\'');
        text.extend_from_slice(repeated(word, REPEATED - used));
        text.extend_from_slice(b"' ");
    }
    text
}

/// A subcommand of no known name.
#[must_use]
pub fn unknown_subcommand(command: &Command, name: &[u8]) -> Vec<u8> {
    let help = command.name.to_ascii_uppercase();
    [b"ERR unknown subcommand '", repeated(name, REPEATED), b"'. Try ", help.as_bytes(), b" HELP."].concat()
}

/// Too few words or too many.
#[must_use]
pub fn wrong_arity(name: &str) -> Vec<u8> {
    format!("ERR wrong number of arguments for '{name}' command").into_bytes()
}

/// A command that a subscribed RESP2 connection cannot carry.
#[must_use]
pub fn subscribed(name: &str) -> Vec<u8> {
    format!(
        "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this \
         context"
    )
    .into_bytes()
}

/// A command that makes no sense for a pool of servers. This program's own words.
#[must_use]
pub fn refused(name: &str) -> Vec<u8> {
    let name = name.replace('|', " ").to_ascii_uppercase();
    format!("ERR {name} is about one server and is not available through this proxy: ask the server itself")
        .into_bytes()
}
