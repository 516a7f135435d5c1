//! Whatever a client of a memcached pool sends, its neighbours do not notice: the server connection that they share
//! stays as it is, and nothing counts against the server.

use super::support::Random;
use super::support::client::Client;
use super::support::process::{Process, Proxy};
use super::support::script::show;

/// Lines of all commands that memcached has, and of some that it has not.
const LINES: &[&str] = &[
    "get k",
    "get",
    "gets k",
    "gat 0 k",
    "gats 0 k",
    "gat",
    "gat x k",
    "bget k",
    "set k 0 0 1",
    "set k 0 0 -1",
    "set k 0 0 99999999999",
    "set k 0 0 2147483647",
    "add k 0 0 1",
    "replace k 0 0 1",
    "append k 0 0 1",
    "prepend k 0 0 1",
    "cas k 0 0 1 1",
    "cas k 0 0 1",
    "delete k",
    "delete k 0",
    "delete k 1",
    "incr k 1",
    "decr k 1",
    "incr k -1",
    "incr k 99999999999999999999",
    "touch k 0",
    "touch k",
    "touch k x",
    "mg k",
    "mg k v",
    "mg k v q",
    "mg k s v c f t h l O123 k q",
    "mg k N30 v",
    "mg k R30 v",
    "mg a2V5 b v",
    "mg a2V5 b k v",
    "mg !!! b v",
    "mg k v v",
    "mg k E5",
    "mg k M",
    "ms k 1",
    "ms k 1 I",
    "ms k 1 q",
    "ms k 1 O1 k b",
    "ms k 1 MX",
    "ms k S1",
    "ms k",
    "ms k 1 T",
    "ms k 1 Cx",
    "ms k 1 F9",
    "md k",
    "md k q",
    "md k I",
    "md k C1 O9 q k",
    "ma k",
    "ma k N0 J13 v",
    "ma k D-1",
    "ma k MD D1 q",
    "ma k Mx",
    "me k",
    "me k b",
    "mn",
    "mn k",
    "mn q",
    "flush_all 1000000 noreply",
    "flush_all x",
    "flush_all 1 2 3",
    "version",
    "version x",
    "verbosity 1",
    "verbosity",
    "quit",
    "shutdown",
    "shutdown graceful",
    "watch",
    "watch fetchers",
    "watch mutations evictions",
    "lru",
    "lru mode flat",
    "lru tune 10 25 0.1 2",
    "lru_crawler",
    "lru_crawler disable",
    "lru_crawler crawl all",
    "slabs",
    "slabs reassign 1 2",
    "slabs automove 0",
    "extstore free_memchunks 1 1",
    "refresh_certs",
    "misbehave",
    "cache_memlimit 1",
    "cache_memlimit",
    "stats",
    "stats items",
    "stats slabs",
    "stats sizes",
    "stats sizes_enable",
    "stats conns",
    "stats settings",
    "stats detail on",
    "stats detail dump",
    "stats detail off",
    "stats cachedump 1 1",
    "stats extstore",
    "stats proxy",
    "stats nothing",
    "gets",
    "mg",
    "md",
    "ma",
    "me",
    "",
    " ",
    "\t",
    "\0",
    "k",
    "END",
    "VALUE k 0 1",
    "debugtime p",
    "proxy",
    "auth",
    "set auth 0 0 5",
    "set k 0 0 1 noreply noreply",
    "watch noreply",
    "quit noreply",
];

/// What is put behind a line, or in the place of one of its words.
const MORE: &[&str] = &[
    "noreply",
    "q",
    "k",
    "O1",
    "b",
    "v",
    "0",
    "1",
    "-1",
    "x",
    "\0",
    "\x01",
    "\x7f",
    "\u{80}",
    "NOREPLY",
    "N0",
    "T0",
    "I",
    "S1",
    "18446744073709551616",
    "k q O1 b v",
];

#[test]
fn no_line_of_a_client_disturbs_a_neighbour() {
    let server = Process::memcached();
    let settings = ["timeout: 3000", "auto_eject_hosts: true", "server_failure_limit: 1"];
    let proxy = Proxy::start(&[server.address], &settings);
    let (mut neighbour, mut direct) = (proxy.client(), server.client());
    let connections = |direct: &mut Client| {
        direct.send("stats\r\n");
        let all = String::from_utf8_lossy(&direct.read_through(b"END\r\n")).into_owned();
        all.lines().find(|line| line.starts_with("STAT total_connections")).map(str::to_owned)
    };
    assert_eq!(neighbour.ask("set here 0 0 1\r\ny\r\n"), "STORED");
    let before = connections(&mut direct);
    let mut random = Random(12);
    let mut lines: Vec<String> = LINES.iter().map(|line| (*line).to_owned()).collect();
    lines.push(format!("get {}", "k".repeat(251)));
    lines.push(format!("get {} {}", "k".repeat(250), "k".repeat(250)));
    lines.push(format!("mg {} v", "k".repeat(251)));
    lines.push(format!("mg k O{}", "1".repeat(33)));
    lines.push(format!("mg k O{} v", "1".repeat(3000)));
    lines.push(format!("mg k{}", " v".repeat(30)));
    lines.push(format!("set k 0 0 1 {}", "x".repeat(9000)));
    lines.push(format!("get {}", "k ".repeat(20_000)));
    lines.push(format!("gat 0 {}", "k ".repeat(20_000)));
    lines.push(format!("gats 0 {}", format!("{} ", "k".repeat(250)).repeat(50)));
    lines.push(format!("mg k T{}1 v", "0".repeat(5000)));
    lines.push(format!("ms k 1 F{}1", "0".repeat(5000)));
    lines.push(format!("incr k {}1", "0".repeat(5000)));
    lines.push(format!("delete {}", "k".repeat(5000)));
    for line in &lines {
        let mut forms = vec![line.clone(), line.to_uppercase(), format!(" {line}")];
        // A flush is the neighbours' affair by its nature, some time after it was said too.
        for more in MORE.iter().filter(|_| !line.starts_with("flush_all")) {
            forms.push(format!("{line} {more}"));
            let mut words: Vec<&str> = line.split(' ').collect();
            let place = random.below(words.len() as u64) as usize;
            words[place] = more;
            forms.push(words.join(" "));
        }
        for form in forms {
            // With a line end of either kind; with a block behind it that fits, and that does not; and with nothing more.
            for end in ["\r\n", "\n", "\r\nx\r\n", "\r\nxyz\r\nget k\r\n", ""] {
                let mut client = proxy.client();
                client.send(format!("{form}{end}"));
            }
        }
        for _ in 0..2 {
            let found = neighbour.exchange(b"set here 0 0 1\r\ny\r\nget here\r\n");
            let expected = b"STORED\r\nVALUE here 0 1\r\ny\r\nEND\r\n";
            assert_eq!(show(&found), show(expected), "after {line:?}");
        }
    }
    assert_eq!(connections(&mut direct), before, "a server connection had to be opened");
    assert_eq!(neighbour.ask("stats reset\r\n"), "RESET"); // which the server forgets its count of connections for
    let statistics = proxy.statistics();
    let figures = &statistics["pool"][server.address.to_string()];
    for counter in ["server_eof", "server_err", "server_timedout", "ejections", "stalls", "resends"] {
        assert_eq!(figures[counter], 0, "{counter}: {figures}");
    }
}

#[test]
fn a_gat_of_many_keys_is_answered_whole_and_in_order() {
    let servers = [Process::memcached(), Process::memcached()];
    let proxy = Proxy::start(&servers.each_ref().map(|server| server.address), &["timeout: 3000"]);
    let mut client = proxy.client();
    let keys: Vec<String> = (0..400).map(|number| format!("{number:0>200}")).collect();
    let mut expected = String::new();
    for key in keys.iter().step_by(2) {
        assert_eq!(client.ask(format!("set {key} 0 0 3\r\n{}\r\n", &key[197..])), "STORED");
        expected.push_str(&format!("VALUE {key} 0 3\r\n{}\r\n", &key[197..]));
    }
    expected.push_str("END\r\n");
    for end in ["\r\n", "  \n"] {
        let found = client.exchange(format!("gat 100 {}{end}", keys.join(" ")).as_bytes());
        assert_eq!(show(&found), show(expected.as_bytes()));
        assert_eq!(found.len(), expected.len());
    }
    let statistics = proxy.statistics();
    for server in &servers {
        assert_eq!(statistics["pool"][server.address.to_string()]["server_eof"], 0);
    }
}
