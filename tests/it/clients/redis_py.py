"""Ordinary use of redis-py, of any version. Arguments: host port, then the protocol (2, 3, or `default`)."""

import sys
import threading
import time

import redis

HOST, PORT = sys.argv[1], int(sys.argv[2])
PROTOCOL = {} if sys.argv[3] == "default" else {"protocol": int(sys.argv[3])}


def client(**more):
    return redis.Redis(host=HOST, port=PORT, socket_timeout=10, **PROTOCOL, **more)


def raises(call, text):
    try:
        call()
    except redis.ResponseError as error:
        assert text in str(error), error
    else:
        raise AssertionError(f"no error with {text!r}")


def values(r):
    assert r.set("a", b"\x00\xff\r\n")
    assert r.get("a") == b"\x00\xff\r\n"
    assert r.get("nothing") is None
    assert r.set("a", "1", nx=True) is None
    assert r.set("t", "x", ex=100) and 90 < r.ttl("t") <= 100
    assert r.ttl("a") == -1 and r.ttl("nothing") == -2
    assert r.expire("a", 50) and r.persist("a")
    big = bytes(range(256)) * 20_000
    assert r.set("big", big) and r.get("big") == big
    assert r.incr("n") == 1 and r.incrby("n", 5) == 6 and r.decr("n") == 5
    assert r.incrbyfloat("f", 1.5) == 1.5
    assert r.append("s", "ab") == 2 and r.strlen("s") == 2 and r.getrange("s", 0, 0) == b"a"
    keys = [f"key:{n}" for n in range(100)]
    assert r.mset({key: key for key in keys})
    assert r.mget(keys + ["nothing"]) == [key.encode() for key in keys] + [None]
    assert r.exists(*keys) == 100 and r.touch(*keys[:10]) == 10
    assert r.delete(*keys[:50]) == 50 and r.unlink(*keys[50:]) == 50
    assert r.type("a") == b"string" and r.type("nothing") == b"none"
    raises(lambda: r.lpush("a", "x"), "WRONGTYPE")
    raises(lambda: r.execute_command("NOSUCHCOMMAND"), "unknown command")
    raises(lambda: r.execute_command("GET"), "wrong number of arguments")
    assert r.get("n") == b"5"


def collections(r):
    assert r.hset("h", mapping={"f": "v", "g": "w"}) == 2
    assert r.hgetall("h") == {b"f": b"v", b"g": b"w"} and r.hget("h", "f") == b"v"
    assert r.hmget("h", "f", "x") == [b"v", None] and r.hgetall("nothing") == {}
    assert r.rpush("l", 1, 2, 3) == 3 and r.lrange("l", 0, -1) == [b"1", b"2", b"3"]
    assert r.lpop("l") == b"1" and r.rpop("l", 2) == [b"3", b"2"] and r.lpop("l") is None
    assert r.sadd("s1", "a", "b") == 2 and r.smembers("s1") == {b"a", b"b"}
    assert bool(r.sismember("s1", "a"))
    assert r.zadd("z", {"a": 1, "b": 2.5}) == 2 and r.zscore("z", "b") == 2.5
    pairs = r.zrange("z", 0, -1, withscores=True)
    assert [tuple(pair) for pair in pairs] == [(b"a", 1.0), (b"b", 2.5)], pairs
    assert r.zrank("z", "b") == 1 and r.zscore("z", "x") is None
    first = r.xadd("x", {"k": "v"})
    r.xadd("x", {"k": "w"})
    assert r.xlen("x") == 2 and r.xrange("x")[0] == (first, {b"k": b"v"})
    assert r.xgroup_create("x", "g", id="0")
    read = r.xreadgroup("g", "me", {"x": ">"}, count=10)
    entries = read[b"x"] if isinstance(read, dict) else read[0][1]
    assert sum(len(part) if isinstance(part, list) else 1 for part in entries) == 2, read
    assert r.xack("x", "g", first) == 1
    assert r.xread({"x": "$"}, block=50) in ([], {}, None)
    assert r.pfadd("p", "a", "b") == 1 and r.pfcount("p") == 2
    assert r.setbit("bits", 7, 1) == 0 and r.bitcount("bits") == 1
    assert r.geoadd("geo", [13.36, 38.11, "Palermo"]) == 1 and len(r.geopos("geo", "Palermo")) == 1


def pipelines(r):
    pipe = r.pipeline(transaction=False)
    for n in range(200):
        pipe.set(f"pipe:{n}", n)
        pipe.get(f"pipe:{n}")
    assert pipe.execute() == [True if n % 2 == 0 else str(n // 2).encode() for n in range(400)]
    pipe = r.pipeline()  # a transaction over keys of several servers
    pipe.mset({f"tx:{n}": n for n in range(20)})
    for n in range(20):
        pipe.incr(f"tx:{n}")
    pipe.mget([f"tx:{n}" for n in range(20)])
    answers = pipe.execute()
    assert answers[0] is True and answers[1:21] == list(range(1, 21))
    assert answers[21] == [str(n).encode() for n in range(1, 21)]
    pipe = r.pipeline()
    pipe.set("word", "w").incr("word").get("word")
    answers = pipe.execute(raise_on_error=False)
    assert answers[0] is True and isinstance(answers[1], redis.ResponseError) and answers[2] == b"w"
    pipe = r.pipeline()
    pipe.set("aborted", 1)
    pipe.execute_command("GET")
    try:
        pipe.execute()
        raise AssertionError("not aborted")
    except (redis.exceptions.ExecAbortError, redis.ResponseError):
        pass
    assert r.get("aborted") is None


def transactions(r):
    r.set("counter", 10)

    def add(pipe):
        value = int(pipe.get("counter"))
        pipe.multi()
        pipe.set("counter", value + 1)

    r.transaction(add, "counter")
    assert r.get("counter") == b"11"
    with r.pipeline() as pipe:
        pipe.watch("counter")
        r.set("counter", 99)
        pipe.multi()
        pipe.set("counter", 0)
        try:
            pipe.execute()
            raise AssertionError("the change was not noticed")
        except redis.WatchError:
            pass
    assert r.get("counter") == b"99"


def locks(r):
    lock = r.lock("lock", timeout=5)
    assert lock.acquire(blocking=False)
    assert not r.lock("lock", timeout=5).acquire(blocking=False)
    assert lock.extend(5) and lock.owned()
    lock.release()
    with r.lock("lock", timeout=5):
        pass


def scans(r):
    r.flushdb()
    keys = {f"scan:{n}" for n in range(300)}
    r.mset({key: 1 for key in keys})
    r.set("other", 1)
    assert {key.decode() for key in r.scan_iter(match="scan:*", count=10)} == keys
    assert {key.decode() for key in r.keys("scan:*")} == keys
    assert r.dbsize() == 301 and r.randomkey() is not None
    assert dict(r.hscan_iter("nothing")) == {}
    assert r.flushdb() and r.dbsize() == 0 and r.flushall()


def scripts(r):
    assert r.eval("return {KEYS[1], ARGV[1]}", 1, "k", "v") == [b"k", b"v"]
    script = r.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    for n in range(20):
        assert script(keys=[f"script:{n}"], args=[n]) == n
    sha = r.script_load("return 7")
    assert r.script_exists(sha, "0" * 40) == [True, False] and r.evalsha(sha, 1, "any") == 7
    assert r.eval("return 5", 0) == 5


def blocking(r):
    def later():
        time.sleep(0.2)
        client().rpush("queue", "job")

    thread = threading.Thread(target=later)
    thread.start()
    assert tuple(r.blpop("queue", timeout=5)) == (b"queue", b"job")
    thread.join()
    before = time.monotonic()
    assert r.blpop("queue", timeout=1) is None
    assert 0.9 < time.monotonic() - before < 3
    assert r.get("nothing") is None
    # More than the pool's timeout is no failure.
    assert r.bzpopmin("queue", timeout=3) is None


def messages(r):
    other = client()
    channels = [f"channel:{n}" for n in range(10)]
    p = r.pubsub()
    p.subscribe(*channels)
    p.psubscribe("chan*:5")
    for _ in range(11):
        assert p.get_message(timeout=5)["type"] in ("subscribe", "psubscribe")
    for n in range(30):
        other.publish(channels[n % 10], n)
    got = [p.get_message(timeout=5) for _ in range(33)]
    plain = [(m["channel"].decode(), int(m["data"])) for m in got if m["type"] == "message"]
    for channel in channels:
        assert [n for at, n in plain if at == channel] == list(range(int(channel[8:]), 30, 10))
    assert sum(m["type"] == "pmessage" for m in got) == 3
    p.unsubscribe()
    p.punsubscribe()
    assert sum(p.get_message(timeout=5)["type"] in ("unsubscribe", "punsubscribe") for _ in range(11)) == 11
    p.close()


def connections(r):
    assert r.ping() and r.echo("hello") == b"hello" and len(r.time()) == 2
    named = client(client_name="me")
    assert named.client_getname() in (b"me", "me") and named.client_id() > 0
    assert r.info()["redis_version"] and "keyspace_hits" in r.info("stats")
    assert r.config_get("maxmemory") is not None
    one, nought = client(db=1), client()
    one.set("database", "one")
    assert nought.get("database") is None and one.get("database") == b"one"
    one.flushdb()
    text = client(decode_responses=True)
    text.set("word", "žluťoučký")
    assert text.get("word") == "žluťoučký"


r = client()
r.flushall()
for part in (values, collections, pipelines, transactions, locks, scans, scripts, blocking, messages, connections):
    part(r)
print("fine")
