//! Redis pools.

mod about_servers;
mod blocked;
mod client_command;
mod clients;
mod conformance;
mod connections;
mod counted;
mod dedicated;
mod differential;
mod fallback;
mod guards;
mod invalidations;
mod keyspace;
mod large;
mod left;
mod malformed;
mod moved;
mod neighbours;
mod order;
mod patterns;
mod pool_of_one;
mod scripts;
mod sim;
mod subscriptions;
mod table;
mod waits;

use super::support::client::Client;

/// The whole answer to a request of words without blanks, as it comes.
fn reply_of(client: &mut Client, request: &str) -> String {
    client.send(format!("{request}\r\n"));
    String::from_utf8_lossy(&whole_reply(client)).into_owned()
}

/// The bytes of the next answer.
fn whole_reply(client: &mut Client) -> Vec<u8> {
    let mut reply = client.read_through(b"\r\n");
    let number = || std::str::from_utf8(&reply[1..reply.len() - 2]).unwrap().parse::<i64>().unwrap_or(0);
    match reply[0] {
        b'$' | b'=' if number() >= 0 => {
            let text = client.read(number() as usize + 2);
            reply.extend(text);
        }
        mark @ (b'*' | b'~' | b'%' | b'>') => {
            let count = number() * if mark == b'%' { 2 } else { 1 };
            (0..count).for_each(|_| reply.extend(whole_reply(client)));
        }
        _ => {}
    }
    reply
}
