//! Requests with a large word, which are kept and sent in other ways than small ones: every command, with each of its words large,
//! alone and in a transaction, answers what it answers without the proxy.

use super::pool_of_one::{OWN, REFUSED, commands, is_own, request};
use super::whole_reply;
use crate::support::client::Client;
use crate::support::process::{Process, Proxy};

/// More than what is looked at in one go.
const LARGE: usize = 300_000;

/// Words of a command that are made large, one at a time: the first of them, and the last.
const PLACES: usize = 3;

fn array(words: &[&str]) -> String {
    let words = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
    format!("*{}\r\n{}", words.len(), words.collect::<String>())
}

/// A command with one of its words large, for each place.
fn large_requests(name: &str, words: usize, large: &str) -> Vec<String> {
    let request = request(name, words);
    let words: Vec<&str> = request.split(' ').collect();
    let mut places: Vec<usize> = (1..words.len().min(1 + PLACES)).chain([words.len() - 1]).collect();
    places.dedup();
    let with_large = |place: usize| {
        let mut words = words.clone();
        words[place] = large;
        array(&words)
    };
    places.into_iter().filter(|place| *place > 0).map(with_large).collect()
}

/// The beginnings of all answers to some requests.
fn answers(client: &mut Client, requests: &str) -> Vec<String> {
    client.send([requests, &array(&["ECHO", "that was all"])].concat());
    let mut answers = Vec::new();
    loop {
        let answer = whole_reply(client);
        if answer == b"$12\r\nthat was all\r\n" {
            return answers;
        }
        answers.push(format!("{} bytes: {}", answer.len(), answer[..answer.len().min(200)].escape_ascii()));
    }
}

/// Whether nothing can be told of a command by what it answers.
fn is_left_out(name: &str) -> bool {
    let closes = ["quit", "reset", "monitor"].contains(&name) || name.contains("subscribe");
    closes || REFUSED.contains(&name) || OWN.contains(&name)
}

#[test]
fn every_command_with_a_large_word_answers_what_the_server_answers() {
    let servers = [Process::redis(), Process::redis()];
    let proxy = Proxy::start(&[servers[1].address], &["redis: true", "timeout: 5000"]);
    let large = "K".repeat(LARGE);
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for (name, words) in commands(&mut servers[0].client()) {
        if is_left_out(&name) {
            continue;
        }
        for request in large_requests(&name, words, &large) {
            println!("{name} of {} bytes", request.len()); // shown when one of both closes the connection
            let in_transaction = [&array(&["MULTI"]), &request, &array(&["EXEC"])].map(String::as_str).concat();
            for (how, requests) in [("alone", &request), ("in a transaction", &in_transaction)] {
                if how != "alone" && is_own(&name) {
                    continue;
                }
                let [theirs, ours] =
                    [servers[0].client(), proxy.client()].map(|mut client| answers(&mut client, requests));
                compared += 1;
                if theirs != ours {
                    wrong.push(format!("{name} {how}\n   redis {theirs:?}\n   here  {ours:?}"));
                }
            }
        }
        for mut client in [servers[0].client(), proxy.client()] {
            assert_eq!(client.ask("FLUSHALL\r\n"), "+OK");
        }
    }
    assert!(compared > 1000, "{compared}");
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Keys of several servers: each request has one answer, and the next client is answered as well.
#[test]
fn every_command_with_a_large_word_is_answered_once_where_there_are_several_servers() {
    let servers = [(); 3].map(|()| Process::redis());
    let proxy = Proxy::start(&servers.each_ref().map(|server| server.address), &["redis: true", "timeout: 5000"]);
    let large = "K".repeat(LARGE);
    for (name, words) in commands(&mut servers[0].client()) {
        if is_left_out(&name) {
            continue;
        }
        for request in large_requests(&name, words, &large) {
            println!("{name} of {} bytes", request.len());
            let told = answers(&mut proxy.client(), &request);
            assert_eq!(told.len(), 1, "{name}: {told:?}");
            let in_transaction = [&array(&["MULTI"]), &request, &array(&["EXEC"])].map(String::as_str).concat();
            if !is_own(&name) {
                let told = answers(&mut proxy.client(), &in_transaction);
                assert_eq!(told.len(), 3, "{name}: {told:?}");
            }
        }
    }
}
