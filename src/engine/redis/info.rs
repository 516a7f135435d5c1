//! `INFO` of several servers as one listing.

#![expect(clippy::wildcard_enum_match_arm, reason = "the cases that matter are named, the others are alike")]

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::proto::resp::reply::{self, Reply};
use crate::proto::resp::{Version, encode};

/// Fields that are added up. Whatever is not listed is the first server's.
const SUMMED: [&str; 36] = [
    "connected_clients",
    "cluster_connections",
    "blocked_clients",
    "tracking_clients",
    "clients_in_timeout_table",
    "used_memory",
    "used_memory_rss",
    "used_memory_peak",
    "used_memory_overhead",
    "used_memory_startup",
    "used_memory_dataset",
    "used_memory_lua",
    "used_memory_scripts",
    "maxmemory",
    "total_connections_received",
    "total_commands_processed",
    "instantaneous_ops_per_sec",
    "total_net_input_bytes",
    "total_net_output_bytes",
    "rejected_connections",
    "expired_keys",
    "evicted_keys",
    "evicted_clients",
    "keyspace_hits",
    "keyspace_misses",
    "pubsub_channels",
    "pubsub_patterns",
    "total_error_replies",
    "total_reads_processed",
    "total_writes_processed",
    "rdb_changes_since_last_save",
    "number_of_cached_scripts",
    "number_of_functions",
    "number_of_libraries",
    "connected_slaves",
    "mem_clients_normal",
];

/// Fields of one `dbN:keys=1,expires=0,avg_ttl=0` line: the first two are added up.
fn database(line: &str) -> Option<(u32, [u64; 3])> {
    let (name, rest) = line.split_once(':')?;
    let number = name.strip_prefix("db")?.parse().ok()?;
    let mut values = [0; 3];
    for (value, field) in values.iter_mut().zip(rest.split(',')) {
        *value = field.split_once('=')?.1.parse().ok()?;
    }
    Some((number, values))
}

/// Whether a request for these sections wants this program's own.
pub(super) fn wants_own<'a>(sections: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut all = true;
    for name in sections {
        all = false;
        if ["softmiss", "all", "everything", "default"].iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes())) {
            return true;
        }
    }
    all
}

/// One listing made of those of several servers: the first one's, with counts added up.
#[derive(Debug, Default)]
pub(super) struct Merged {
    first: Option<String>,
    sums: BTreeMap<&'static str, u64>,
    databases: BTreeMap<u32, [u64; 3]>,
}

impl Merged {
    /// Adds a server's.
    pub(super) fn add(&mut self, reply: &[u8]) {
        let text = match reply::read(reply) {
            Reply::Bulk(text) => String::from_utf8_lossy(text),
            _ => "".into(),
        };
        for line in text.lines() {
            if let Some((number, values)) = database(line) {
                match self.databases.entry(number) {
                    Entry::Occupied(sum) => {
                        let sum = sum.into_mut();
                        (sum[0], sum[1]) = (sum[0].saturating_add(values[0]), sum[1].saturating_add(values[1]));
                    }
                    Entry::Vacant(place) => _ = place.insert(values),
                }
            } else if let Some((name, value)) = line.split_once(':')
                && let Some(name) = SUMMED.iter().find(|summed| **summed == name)
                && let Ok(value) = value.parse::<u64>()
            {
                *self.sums.entry(name).or_default() += value;
            }
        }
        self.first.get_or_insert_with(|| text.into_owned());
    }

    /// Appends it, and behind it `own`.
    pub(super) fn write(&self, out: &mut Vec<u8>, own: &str, version: Version) {
        let Self { first, sums, databases } = self;
        let mut text = String::new();
        let mut line = |one: &str| {
            text.push_str(one);
            text.push_str("\r\n");
        };
        for one in first.as_deref().unwrap_or_default().lines() {
            match one.split_once(':') {
                _ if database(one).is_some() => {}
                Some((name, _)) if sums.contains_key(name) => line(&format!("{name}:{}", sums[name])),
                _ => line(one),
            }
            if one == "# Keyspace" {
                for (number, [keys, expires, ttl]) in databases {
                    line(&format!("db{number}:keys={keys},expires={expires},avg_ttl={ttl}"));
                }
            }
        }
        if !own.is_empty() && !text.is_empty() {
            text.push_str("\r\n");
        }
        text.push_str(own);
        verbatim(out, &text, version);
    }
}

/// Appends one listing made of those of several servers, and behind it `own`.
pub(super) fn merge<'a>(out: &mut Vec<u8>, replies: impl Iterator<Item = &'a [u8]>, own: &str, version: Version) {
    let mut merged = Merged::default();
    replies.for_each(|reply| merged.add(reply));
    merged.write(out, own, version);
}

/// Appends a text as `INFO` is answered.
pub(super) fn verbatim(out: &mut Vec<u8>, text: &str, version: Version) {
    encode::verbatim_head(out, text.len(), version);
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_added_and_the_rest_is_the_first_servers() {
        let one = |text: &str| {
            let mut reply = Vec::new();
            encode::bulk(&mut reply, text.as_bytes());
            reply
        };
        let first = one(
            "# Server\r\nredis_version:7.0.15\r\n\r\n# Stats\r\nkeyspace_hits:3\r\n\r\n# Keyspace\r\ndb0:keys=1,expires=1,avg_ttl=9\r\n",
        );
        let second = one(
            "# Server\r\nredis_version:7.0.14\r\n\r\n# Stats\r\nkeyspace_hits:4\r\n\r\n# Keyspace\r\ndb0:keys=2,expires=0,avg_ttl=0\r\ndb11:keys=5,expires=0,avg_ttl=0\r\n",
        );
        let mut out = Vec::new();
        merge(
            &mut out,
            [first.as_slice(), &second].into_iter(),
            "# Softmiss\r\nsoftmiss_requests:1\r\n",
            Version::Resp2,
        );
        let Reply::Bulk(text) = reply::read(&out) else { panic!("no text") };
        assert_eq!(
            String::from_utf8_lossy(text),
            "# Server\r\nredis_version:7.0.15\r\n\r\n# Stats\r\nkeyspace_hits:7\r\n\r\n# Keyspace\r\n\
             db0:keys=3,expires=1,avg_ttl=9\r\ndb11:keys=5,expires=0,avg_ttl=0\r\n\r\n# Softmiss\r\nsoftmiss_requests:1\r\n"
        );
        let wants = |words: &[&str]| wants_own(words.iter().map(|word| word.as_bytes()));
        assert!(wants(&[]) && wants(&["memory", "Softmiss"]) && wants(&["ALL"]));
        assert!(!wants(&["memory"]) && !wants(&["keyspace", "stats"]));
    }
}
