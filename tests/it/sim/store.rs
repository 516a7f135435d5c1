//! A memcached made of a map: the servers of the simulation, and the model that healthy runs are compared with.

use std::collections::BTreeMap;

/// Items and the counter of their unique values.
#[derive(Debug, Default, Clone)]
pub(super) struct Store {
    items: BTreeMap<Vec<u8>, Item>,
    unique: u64,
}

#[derive(Debug, Clone)]
struct Item {
    flags: u32,
    value: Vec<u8>,
    unique: u64,
}

/// One command at the front of some bytes: its length, and the response to it.
pub(super) struct Executed {
    pub(super) len: usize,
    pub(super) response: Vec<u8>,
    /// Ends of the pieces of the response, for faults that cut between them.
    pub(super) is_value: bool,
}

impl Store {
    pub(super) fn clear(&mut self) {
        self.items.clear();
    }

    /// Executes one whole command of canonical form; `None` when it is not all there.
    pub(super) fn execute(&mut self, input: &[u8]) -> Option<Executed> {
        let end = input.windows(2).position(|pair| pair == b"\r\n")?;
        let line = std::str::from_utf8(&input[..end]).expect("commands of the simulation are text").to_owned();
        let mut words: Vec<_> = line.split(' ').filter(|word| !word.is_empty()).collect();
        let noreply = words.last() == Some(&"noreply");
        if noreply {
            words.pop();
        }
        let mut len = end + 2;
        let block_len = match words[0] {
            "set" | "add" | "replace" | "append" | "prepend" | "cas" => Some(words[4].parse::<usize>().unwrap()),
            "ms" => Some(words[2].parse::<usize>().unwrap()),
            _ => None,
        };
        let mut block = Vec::new();
        if let Some(bytes) = block_len {
            if input.len() < len + bytes + 2 {
                return None;
            }
            block = input[len..len + bytes].to_vec();
            assert_eq!(&input[len + bytes..len + bytes + 2], b"\r\n", "a block without its end reached a server");
            len += bytes + 2;
        }
        let response = if words[0].len() == 2 { self.meta(&words, &block) } else { self.classic(&words, block) };
        let is_value = response.starts_with(b"VA");
        Some(Executed { len, response: if noreply { Vec::new() } else { response }, is_value })
    }

    fn classic(&mut self, words: &[&str], block: Vec<u8>) -> Vec<u8> {
        let text = |text: &str| format!("{text}\r\n").into_bytes();
        match words[0] {
            "get" | "gets" | "gat" | "gats" => {
                let keys = if words[0].starts_with("gat") { &words[2..] } else { &words[1..] };
                let mut out = Vec::new();
                for key in keys {
                    if let Some(item) = self.items.get(key.as_bytes()) {
                        let unique = if words[0].ends_with('s') { format!(" {}", item.unique) } else { String::new() };
                        let head = format!("VALUE {key} {} {}{unique}\r\n", item.flags, item.value.len());
                        out.extend_from_slice(head.as_bytes());
                        out.extend_from_slice(&item.value);
                        out.extend_from_slice(b"\r\n");
                    }
                }
                out.extend_from_slice(b"END\r\n");
                out
            }
            "set" | "add" | "replace" | "append" | "prepend" | "cas" => {
                let flags = words[2].parse().unwrap();
                let unique = words.get(5).map(|unique| unique.parse().unwrap());
                text(self.store(words[0], words[1], flags, unique, &block).0)
            }
            "delete" => text(if self.items.remove(words[1].as_bytes()).is_some() { "DELETED" } else { "NOT_FOUND" }),
            "touch" => text(if self.items.contains_key(words[1].as_bytes()) { "TOUCHED" } else { "NOT_FOUND" }),
            "incr" | "decr" => text(&self.count(words[0] == "incr", words[1], words[2].parse().unwrap())),
            "flush_all" => {
                self.clear();
                text("OK")
            }
            "version" => text("VERSION 1.6.18"),
            other => panic!("the simulation sends no {other}"),
        }
    }

    fn store(
        &mut self,
        verb: &str,
        key: &str,
        flags: u32,
        unique: Option<u64>,
        block: &[u8],
    ) -> (&'static str, &'static str) {
        let known = self.items.get(key.as_bytes()).cloned();
        let value = match (verb, &known) {
            ("set", _) | ("add", None) | ("replace", Some(_)) => block.to_vec(),
            ("append", Some(item)) => [&item.value, block].concat(),
            ("prepend", Some(item)) => [block, &item.value].concat(),
            ("cas", Some(item)) if Some(item.unique) == unique => block.to_vec(),
            ("cas", Some(_)) => return ("EXISTS", "EX"),
            ("cas", None) => return ("NOT_FOUND", "NF"),
            _ => return ("NOT_STORED", "NS"),
        };
        let flags = if matches!(verb, "append" | "prepend") { known.map_or(0, |item| item.flags) } else { flags };
        self.unique += 1;
        self.items.insert(key.as_bytes().to_vec(), Item { flags, value, unique: self.unique });
        ("STORED", "HD")
    }

    fn count(&mut self, up: bool, key: &str, delta: u64) -> String {
        self.unique += 1;
        let Some(item) = self.items.get_mut(key.as_bytes()) else { return "NOT_FOUND".to_owned() };
        let Ok(value) = String::from_utf8_lossy(&item.value).parse::<u64>() else {
            return "CLIENT_ERROR cannot increment or decrement non-numeric value".to_owned();
        };
        let value = if up { value.wrapping_add(delta) } else { value.saturating_sub(delta) };
        item.value = value.to_string().into_bytes();
        item.unique = self.unique;
        value.to_string()
    }

    fn meta(&mut self, words: &[&str], block: &[u8]) -> Vec<u8> {
        if words[0] == "mn" {
            return b"MN\r\n".to_vec();
        }
        let key = words[1];
        let flags: Vec<_> = words[if words[0] == "ms" { 3 } else { 2 }.min(words.len())..].to_vec();
        let has = |letter: char| flags.iter().any(|flag| flag.starts_with(letter));
        let echo = |item: Option<&Item>| {
            let mut out = String::new();
            for flag in &flags {
                match (flag.as_bytes()[0], item) {
                    (b'k', _) => out += &format!(" k{key}"),
                    (b'O', _) => out += &format!(" {flag}"),
                    (b's', Some(item)) => out += &format!(" s{}", item.value.len()),
                    (b'f', Some(item)) => out += &format!(" f{}", item.flags),
                    (b'c', Some(item)) => out += &format!(" c{}", item.unique),
                    _ => {}
                }
            }
            out
        };
        let quiet = has('q');
        let line = |code: &str, item: Option<&Item>| format!("{code}{}\r\n", echo(item)).into_bytes();
        match words[0] {
            "mg" => match self.items.get(key.as_bytes()) {
                None if quiet => Vec::new(),
                None => line("EN", None),
                Some(item) if has('v') => {
                    let mut out = format!("VA {}{}\r\n", item.value.len(), echo(Some(item))).into_bytes();
                    out.extend_from_slice(&item.value);
                    out.extend_from_slice(b"\r\n");
                    out
                }
                Some(item) => line("HD", Some(item)),
            },
            "ms" => {
                let verb = match flags.iter().find(|flag| flag.starts_with('M')) {
                    Some(&"ME") => "add",
                    Some(&"MR") => "replace",
                    _ => "set",
                };
                match self.store(verb, key, 0, None, block).1 {
                    "HD" if quiet => Vec::new(),
                    code => line(code, None),
                }
            }
            "md" => match self.items.remove(key.as_bytes()) {
                Some(_) if quiet => Vec::new(),
                Some(_) => line("HD", None),
                None => line("NF", None),
            },
            "ma" => match self.count(true, key, 1).as_str() {
                "NOT_FOUND" => line("NF", None),
                error if error.starts_with("CLIENT") => format!("{error}\r\n").into_bytes(),
                _ if quiet => Vec::new(),
                number if has('v') => format!("VA {}{}\r\n{number}\r\n", number.len(), echo(None)).into_bytes(),
                _ => line("HD", None),
            },
            other => panic!("the simulation sends no {other}"),
        }
    }
}
