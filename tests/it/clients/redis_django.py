"""Ordinary use of Django's RedisCache and of django-redis. Arguments: host port, then which of the two."""

import sys
import time

import django
from django.conf import settings

HOST, PORT, WHICH = sys.argv[1], int(sys.argv[2]), sys.argv[3]
BACKEND = {"django": "django.core.cache.backends.redis.RedisCache", "django-redis": "django_redis.cache.RedisCache"}
# Every example in the documentation of django-redis uses database 1.
DATABASE = {"django": "", "django-redis": "/1"}
settings.configure(
    CACHES={"default": {"BACKEND": BACKEND[WHICH], "LOCATION": f"redis://{HOST}:{PORT}{DATABASE[WHICH]}"}},
)
django.setup()

from django.core.cache import cache  # noqa: E402

cache.clear()
cache.set("a", {"any": ["thing", 1, None]})
assert cache.get("a") == {"any": ["thing", 1, None]} and cache.get("nothing", 5) == 5
assert cache.add("b", 1) and not cache.add("b", 2) and cache.get("b") == 1
assert cache.incr("b") == 2 and cache.incr("b", 10) == 12 and cache.decr("b") == 11
try:
    cache.incr("nothing")
    raise AssertionError("incremented nothing")
except ValueError:
    pass
assert cache.touch("a", 100) and not cache.touch("nothing")
many = {f"many:{n}": f"value {n}" for n in range(100)}
assert cache.set_many(many, timeout=100) in ([], None)
assert cache.get_many(list(many) + ["nothing"]) == many
cache.delete_many(list(many)[:50])
assert len(cache.get_many(list(many))) == 50
assert cache.delete("a") and not cache.delete("a") and not cache.has_key("a")
cache.set("a", 1, timeout=0)
assert cache.get("a") is None
cache.set("a", 1, timeout=None)
assert cache.get("a") == 1
cache.set("a", 2, timeout=1)
assert cache.get("a") == 2
until = time.monotonic() + 5
while cache.get("a") is not None:
    assert time.monotonic() < until
    time.sleep(0.05)
assert cache.get_or_set("g", lambda: "made") == "made" and cache.get("g") == "made"
cache.set("v", 1)
assert cache.incr_version("v") == 2 and cache.get("v", version=2) == 1
big = "x" * 5_000_000
cache.set("big", big)
assert cache.get("big") == big
cache.set("klíč s mezerou", "žluť")
assert cache.get("klíč s mezerou") == "žluť"
if WHICH == "django-redis":
    cache.set("t", 1, timeout=100)
    assert 90 < cache.ttl("t") <= 100 and cache.pttl("t") > 90_000
    assert cache.persist("t") and cache.ttl("t") is None
    assert cache.expire("t", timeout=50) and cache.ttl("t") <= 50
    for n in range(30):
        cache.set(f"pattern:{n}", n)
    assert sorted(cache.keys("pattern:*")) == sorted(f"pattern:{n}" for n in range(30))
    assert len(list(cache.iter_keys("pattern:*"))) == 30
    assert cache.delete_pattern("pattern:*") == 30
    with cache.lock("lock", timeout=5):
        assert not cache.lock("lock", timeout=5).acquire(blocking=False)
    assert cache.set("once", 1, nx=True) and not cache.set("once", 2, nx=True)
    raw = cache.client.get_client()
    assert raw.hset("hash", "f", "v") == 1 and raw.hgetall("hash") == {b"f": b"v"}
cache.clear()
assert cache.get("b") is None and cache.get("g") is None
print("fine")
