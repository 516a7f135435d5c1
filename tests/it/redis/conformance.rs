//! What Redis clients are answered, odd requests included: first by a Redis itself, then through the proxy. Each case also
//! cut in two at every byte.

use super::super::support::client::Client;
use super::super::support::process::{Process, Proxy};
use super::super::support::script::show;

/// What is sent, and what must come back.
type Case = (&'static [u8], &'static [u8]);

/// Cases after which the connection goes on.
const CASES: &[Case] = &[
    (b"PING\r\n", b"+PONG\r\n"),
    (b"ping hello\r\n", b"$5\r\nhello\r\n"),
    (b"PING a b\r\n", b"-ERR wrong number of arguments for 'ping' command\r\n"),
    (b"*1\r\n$4\r\npInG\r\n", b"+PONG\r\n"),
    (b"\r\n\r\n*0\r\n*-1\r\nPING\r\n", b"+PONG\r\n"),
    (b"ECHO \"a\\x41\\n\" \r\n", b"$3\r\naA\n\r\n"),
    (b"ECHO 'it\\'s'\n", b"$4\r\nit's\r\n"),
    (b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n", b"$0\r\n\r\n"),
    (b"*2\r\n$4\r\nECHO\r\n$4\r\n\r\n\r\n\r\n", b"$4\r\n\r\n\r\n\r\n"),
    (b"NOSUCH\r\n", b"-ERR unknown command 'NOSUCH', with args beginning with: \r\n"),
    (b"NOSUCH a b\r\n", b"-ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b' \r\n"),
    (b">3\r\n", b"-ERR unknown command '>3', with args beginning with: \r\n"),
    (b"%1\r\n", b"-ERR unknown command '%1', with args beginning with: \r\n"),
    (b"CONFIG\r\n", b"-ERR wrong number of arguments for 'config' command\r\n"),
    (b"CONFIG NOSUCH\r\n", b"-ERR unknown subcommand 'NOSUCH'. Try CONFIG HELP.\r\n"),
    (b"CONFIG GET\r\n", b"-ERR wrong number of arguments for 'config|get' command\r\n"),
    (b"GET\r\n", b"-ERR wrong number of arguments for 'get' command\r\n"),
    (b"MSET a\r\n", b"-ERR wrong number of arguments for 'mset' command\r\n"),
    (b"MSET a 1 b\r\n", b"-ERR wrong number of arguments for 'mset' command\r\n"),
    (b"SELECT 1\r\nSELECT 0\r\n", b"+OK\r\n+OK\r\n"),
    (b"SELECT 16\r\n", b"-ERR DB index is out of range\r\n"),
    (b"SELECT -1\r\n", b"-ERR DB index is out of range\r\n"),
    (b"SELECT x\r\n", b"-ERR value is not an integer or out of range\r\n"),
    (b"SET a 1\r\nGET a\r\nDEL a\r\nGET a\r\n", b"+OK\r\n$1\r\n1\r\n:1\r\n$-1\r\n"),
    (b"MGET a b\r\n", b"*2\r\n$-1\r\n$-1\r\n"),
    (b"EXEC\r\n", b"-ERR EXEC without MULTI\r\n"),
    (b"DISCARD\r\n", b"-ERR DISCARD without MULTI\r\n"),
    (b"MULTI\r\nMULTI\r\nWATCH a\r\nEXEC\r\n", b"+OK\r\n-ERR MULTI calls can not be nested\r\n-ERR WATCH inside MULTI is not allowed\r\n*0\r\n"),
    (b"MULTI\r\nGET\r\nEXEC\r\n", b"+OK\r\n-ERR wrong number of arguments for 'get' command\r\n-EXECABORT Transaction discarded because of previous errors.\r\n"),
    (b"MULTI\r\nNOSUCH\r\nEXEC\r\n", b"+OK\r\n-ERR unknown command 'NOSUCH', with args beginning with: \r\n-EXECABORT Transaction discarded because of previous errors.\r\n"),
    (b"MULTI\r\nSET a 1\r\nLPUSH a 1\r\nDEL a\r\nEXEC\r\n", b"+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n+OK\r\n-WRONGTYPE Operation against a key holding the wrong kind of value\r\n:1\r\n"),
    (b"MULTI\r\nSET a 1\r\nDISCARD\r\nGET a\r\n", b"+OK\r\n+QUEUED\r\n+OK\r\n$-1\r\n"),
    (b"MULTI\r\nPING\r\nECHO x\r\nEXEC\r\n", b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+PONG\r\n$1\r\nx\r\n"),
    (b"MULTI\r\nEXEC x\r\nEXEC\r\n", b"+OK\r\n-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\r\n-ERR EXEC without MULTI\r\n"),
    (b"WATCH a\r\nSET a 2\r\nMULTI\r\nSET a 3\r\nEXEC\r\nDEL a\r\n", b"+OK\r\n+OK\r\n+OK\r\n+QUEUED\r\n*-1\r\n:1\r\n"),
    (b"WATCH a\r\nUNWATCH\r\nSET a 2\r\nMULTI\r\nSET a 3\r\nEXEC\r\nDEL a\r\n", b"+OK\r\n+OK\r\n+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n:1\r\n"),
    (b"CLIENT GETNAME\r\nCLIENT SETNAME me\r\nCLIENT GETNAME\r\nCLIENT SETNAME \"\"\r\n", b"$-1\r\n+OK\r\n$2\r\nme\r\n+OK\r\n"),
    (b"CLIENT SETNAME \"a b\"\r\n", b"-ERR Client names cannot contain spaces, newlines or special characters.\r\n"),
    (b"CLIENT MAINT_NOTIFICATIONS ON\r\n", b"-ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.\r\n"),
    (b"CLIENT REPLY OFF\r\nPING\r\nNOSUCH\r\nGET a\r\nCLIENT REPLY ON\r\n", b"+OK\r\n"),
    (b"CLIENT REPLY SKIP\r\nGET a\r\nPING\r\n", b"+PONG\r\n"),
    (b"HELLO 4\r\n", b"-NOPROTO unsupported protocol version\r\n"),
    (b"HELLO x\r\n", b"-ERR Protocol version is not an integer or out of range\r\n"),
    (b"HELLO 3 NOSUCH\r\n", b"-ERR Syntax error in HELLO option 'NOSUCH'\r\n"),
    (b"AUTH x\r\n", b"-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?\r\n"),
    (b"AUTH default x\r\n", b"+OK\r\n"),
    (b"AUTH nobody x\r\n", b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"),
    (b"RESET\r\n", b"+RESET\r\n"),
    (b"SUBSCRIBE c d\r\nPING\r\nPING x\r\nGET a\r\nUNSUBSCRIBE c d\r\nPING\r\n", b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nd\r\n:2\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n*2\r\n$4\r\npong\r\n$1\r\nx\r\n-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context\r\n*3\r\n$11\r\nunsubscribe\r\n$1\r\nc\r\n:1\r\n*3\r\n$11\r\nunsubscribe\r\n$1\r\nd\r\n:0\r\n+PONG\r\n"),
    (b"UNSUBSCRIBE\r\nPUNSUBSCRIBE\r\n", b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n*3\r\n$12\r\npunsubscribe\r\n$-1\r\n:0\r\n"),
    (b"PSUBSCRIBE c*\r\nRESET\r\nGET c\r\n", b"*3\r\n$10\r\npsubscribe\r\n$2\r\nc*\r\n:1\r\n+RESET\r\n$-1\r\n"),
    (b"READONLY\r\n", b"-ERR This instance has cluster support disabled\r\n"),
    (b"BLPOP a x\r\n", b"-ERR timeout is not a float or out of range\r\n"),
    (b"RPUSH a 1\r\nBLPOP a 0\r\nGET a\r\n", b":1\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n$-1\r\n"),
];

/// Cases after which the stream cannot be followed.
const LAST: &[Case] = &[
    (b"*x\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
    (b"*99999999999\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
    (b"PING\r\n*1\r\n$-5\r\n", b"+PONG\r\n-ERR Protocol error: invalid bulk length\r\n"),
    (b"*1\r\n$99999999999\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
    (b"*1\r\n*1\r\n", b"-ERR Protocol error: expected '$', got '*'\r\n"),
    (b"*2\r\n$3\r\nGET\r\n:1\r\n", b"-ERR Protocol error: expected '$', got ':'\r\n"),
    (b"GET \"a\r\n", b"-ERR Protocol error: unbalanced quotes in request\r\n"),
    (b"QUIT\r\n", b"+OK\r\n"),
    (b"GET nothing\r\nQUIT\r\nPING\r\n", b"$-1\r\n+OK\r\n"),
];

fn check(client: &mut Client, sent: &[u8], cut: usize, expected: &[u8], name: &str) {
    client.send(&sent[..cut]);
    client.send(&sent[cut..]);
    let found = client.read(expected.len());
    assert!(
        found == expected,
        "{name}, {} cut at {cut}\n  found    {}\n  expected {}",
        show(sent),
        show(&found),
        show(expected)
    );
}

fn check_all(name: &str, mut connect: impl FnMut() -> Client, cuts: impl Fn(usize) -> Vec<usize>) {
    for (sent, expected) in CASES {
        let mut client = connect();
        for cut in cuts(sent.len()) {
            check(&mut client, sent, cut, expected, name);
        }
        assert_eq!(client.ask("PING\r\n"), "+PONG", "{name}, behind {}", show(sent));
    }
    for (sent, expected) in LAST {
        for cut in cuts(sent.len()) {
            let mut client = connect();
            check(&mut client, sent, cut, expected, name);
            assert!(client.is_closed(), "{name}, behind {}", show(sent));
        }
    }
    for (line, what) in [(vec![b'a'; 70_000], "inline request"), (vec![b'*'; 70_000], "mbulk count string")] {
        let mut client = connect();
        client.send(&line);
        assert_eq!(client.line(), format!("-ERR Protocol error: too big {what}"), "{name}");
        assert!(client.is_closed());
    }
}

#[test]
fn redis_itself_says_so() {
    let server = Process::redis();
    check_all("redis", || server.client(), |_| vec![0]);
}

#[test]
fn the_proxy_says_what_redis_says() {
    let server = Process::redis();
    let proxy = Proxy::start(&[server.address], &["redis: true", "timeout: 5000"]);
    check_all("proxy", || proxy.client(), |len| (0..=len).collect());
}

#[test]
fn an_argument_that_is_too_large_is_swallowed() {
    let server = Process::redis();
    let proxy = Proxy::start(&[server.address], &["redis: true", "timeout: 5000", "value_limit: 100kb"]);
    let mut client = proxy.client();
    let value = vec![b'*'; 5_000_000];
    client.send(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$5000000\r\n");
    assert_eq!(client.line(), "-ERR an argument of the request is larger than this proxy takes");
    client.send(&value);
    client.send(b"\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n");
    assert_eq!(client.line(), "$-1");
}
