"""Ordinary use of every memcached client, through the proxy. Arguments: host port, or unix:PATH 0; then what to run."""

import asyncio
import os
import sys

HOST, PORT = sys.argv[1], int(sys.argv[2])
WHERE = HOST if HOST.startswith("unix:") else f"{HOST}:{PORT}"


def refused_for_size(error):
    """Whether a client's error says that the server would not take a value of that size."""
    return any(word in repr(error).lower() for word in ("toobig", "too large", "servererror"))


def pymemcache():
    from pymemcache.client.base import Client
    from pymemcache.client.hash import HashClient

    for client in (Client((HOST, PORT), timeout=5, connect_timeout=5), HashClient([(HOST, PORT)], timeout=5)):
        assert client.set("a", b"1", noreply=False)
        assert client.get("a") == b"1"
        client.set("b", b"2")  # noreply is this client's default
        assert client.get("b") == b"2"
        client.set_many({f"m{n}": str(n).encode() for n in range(50)})
        assert client.get_many([f"m{n}" for n in range(60)]) == {f"m{n}": str(n).encode() for n in range(50)}
        assert client.add("a", b"x", noreply=False) is False
        assert client.replace("a", b"5", noreply=False) is True
        assert client.incr("a", 3) == 8
        assert client.decr("a", 1) == 7
        assert client.append("a", b"0", noreply=False) is True
        assert client.prepend("a", b"9", noreply=False) is True
        assert client.get("a") == b"970"
        value, unique = client.gets("a")
        assert client.cas("a", b"new", unique, noreply=False) is True
        assert client.cas("a", b"newer", unique, noreply=False) is False
        assert client.touch("a", 100, noreply=False) is True
        assert client.delete("a", noreply=False) is True
        assert client.delete("a", noreply=False) is False
        client.set("gone", b"x", expire=-1, noreply=False)
        assert client.get("gone") is None
        client.set("big", b"x" * 900_000, noreply=False)
        assert len(client.get("big")) == 900_000
        client.flush_all(noreply=False)
        assert client.get("b") is None
    client = Client((HOST, PORT), timeout=5)
    assert client.version().startswith(b"1.6.")
    assert b"curr_items" in client.stats()
    assert b"maxbytes" in client.stats("settings")
    client.quit()


def pylibmc(binary=False):
    import pylibmc

    user, password = os.environ.get("SOFTMISS_USER"), os.environ.get("SOFTMISS_PASSWORD")
    who = {"username": user, "password": password} if user else {}
    client = pylibmc.Client([WHERE], binary=binary, behaviors={"cas": True, "tcp_nodelay": True}, **who)
    assert client.set("a", 1)
    assert client.get("a") == 1
    assert client.set_multi({f"m{n}": n for n in range(100)}) == []
    assert client.get_multi([f"m{n}" for n in range(120)]) == {f"m{n}": n for n in range(100)}
    assert client.add("a", 5) is False
    assert client.replace("a", 5)
    assert client.incr("a") == 6
    assert client.decr("a", 2) == 4
    assert client.touch("a", 100)
    value, unique = client.gets("a")
    assert client.cas("a", 9, unique)
    assert client.delete("a") is True
    assert client.delete("a") is False
    if not binary:  # it has no lifetime that is over: memcached keeps it until 2106
        assert client.set("gone", "x", time=4294967295)  # Django's timeout=0
        assert client.get("gone") is None
    client.set("text", "a")
    assert client.append("text", "b") and client.prepend("text", "0")
    assert client.get("text") == "0ab"
    try:
        assert not client.set("huge", b"x" * 2_000_000), "2 MB were taken"
    except pylibmc.Error as error:  # which one depends on the libmemcached that it was built with
        assert refused_for_size(error), repr(error)
    assert client.get("huge") is None
    assert client.get("text") == "0ab", "the connection is usable after a refused value"
    assert client.get_stats()
    assert client.flush_all()
    client.disconnect_all()


def python_memcached():
    import memcache

    client = memcache.Client([WHERE], socket_timeout=5)
    assert client.set("a", "text")
    assert client.get("a") == "text"
    assert client.set_multi({f"m{n}": n for n in range(50)}) == []
    assert client.get_multi([f"m{n}" for n in range(60)]) == {f"m{n}": n for n in range(50)}
    assert client.set("n", 1) and client.incr("n", 4) == 5 and client.decr("n") == 4
    assert not client.add("n", 1)
    assert client.touch("n", 50)
    assert client.gets("n") == 4 and client.cas("n", 7)
    assert client.delete("n") == 1
    assert client.get_stats()
    client.flush_all()
    assert client.get("a") is None
    client.disconnect_all()


def aiomcache():
    import aiomcache as module

    async def use():
        client = module.Client(HOST, PORT)
        assert await client.set(b"a", b"1")
        assert await client.get(b"a") == b"1"
        for number in range(20):
            await client.set(b"m%d" % number, b"%d" % number)
        keys = [b"m%d" % number for number in range(22)]
        assert await client.multi_get(*keys) == tuple([b"%d" % n for n in range(20)] + [None, None])
        assert await client.incr(b"a", 5) == 6
        assert await client.touch(b"a", 50)
        value, unique = await client.gets(b"a")
        assert await client.cas(b"a", b"x", unique)
        assert await client.delete(b"a")
        assert (await client.version()).startswith(b"1.6.")
        assert await client.stats()
        await client.flush_all()
        await client.close()

    asyncio.run(use())


def emcache():
    import emcache as module

    async def refused(command, kind=module.NotStoredStorageCommandError):
        try:
            await command
        except kind:
            return True
        return False

    async def use():
        client = await module.create_client([module.MemcachedHostAddress(HOST, PORT)], timeout=5, connection_timeout=5)
        await client.set(b"a", b"1")
        assert (await client.get(b"a")).value == b"1" and await client.get(b"never") is None
        assert await refused(client.add(b"a", b"2")) and await refused(client.replace(b"never", b"2"))
        await client.replace(b"a", b"5")
        assert await client.increment(b"a", 3) == 8 and await client.decrement(b"a", 1) == 7
        await client.append(b"a", b"0")
        await client.prepend(b"a", b"9")
        assert (await client.get(b"a")).value == b"970"
        unique = (await client.gets(b"a")).cas
        await client.cas(b"a", b"new", unique)
        assert await refused(client.cas(b"a", b"newer", unique), module.StorageCommandError)
        for number in range(100):
            await client.set(b"m%d" % number, b"%d" % number, noreply=number % 2 == 0)
        keys = [b"m%d" % number for number in range(110)]
        found = await client.get_many(keys)
        assert {key: item.value for key, item in found.items()} == {b"m%d" % n: b"%d" % n for n in range(100)}
        found = await client.gat_many(100, keys)
        assert len(found) == 100
        await client.touch(b"a", 50)
        assert await refused(client.touch(b"never", 50), module.NotFoundCommandError)
        await client.set(b"big", b"x" * 900_000)
        assert len((await client.get(b"big")).value) == 900_000
        await client.delete(b"a")
        assert await refused(client.delete(b"a"), module.NotFoundCommandError)
        where = module.MemcachedHostAddress(HOST, PORT)
        assert (await client.version(where)).startswith("1.6.")
        assert "curr_items" in await client.stats(where)
        await client.flush_all(where)
        assert await client.get(b"m1") is None
        await client.close()

    asyncio.run(use())


def django(backend, **options):
    import django as module
    from django.conf import settings

    backend = f"django.core.cache.backends.memcached.{backend}"
    settings.configure(CACHES={"default": {"BACKEND": backend, "LOCATION": WHERE} | options})
    module.setup()
    from django.core.cache import cache

    cache.set("a", {"b": [1, 2]})
    assert cache.get("a") == {"b": [1, 2]}
    assert cache.add("a", 1) is False and cache.add("new", 1) is True
    cache.set("n", 1)
    assert cache.incr("n", 4) == 5 and cache.decr("n") == 4
    try:
        cache.incr("never")
        raise AssertionError("incr of nothing")
    except ValueError:
        pass
    assert cache.set_many({f"m{n}": n for n in range(200)}) == []
    assert cache.get_many([f"m{n}" for n in range(220)]) == {f"m{n}": n for n in range(200)}
    cache.delete_many([f"m{n}" for n in range(100)])
    assert cache.get_many([f"m{n}" for n in range(200)]) == {f"m{n}": n for n in range(100, 200)}
    assert cache.touch("a", 100) is True and cache.touch("never", 5) is False
    if not options:  # the binary protocol has no lifetime that is over: memcached keeps it until 2106
        cache.set("gone", 1, timeout=0)
        assert cache.get("gone", "default") == "default"
        cache.set("gone", 1, timeout=-5)
        assert cache.get("gone") is None
    cache.set("kept", 1, timeout=None)
    assert cache.get("kept") == 1
    assert cache.has_key("kept") and "kept" in cache
    cache.set("v", 1, version=1)
    cache.incr_version("v")
    assert cache.get("v", version=2) == 1
    assert cache.get_or_set("lazy", lambda: 42) == 42
    cache.set("big", "x" * 900_000)
    assert len(cache.get("big")) == 900_000
    try:
        cache.set("huge", b"x" * 2_000_000)
    except Exception as error:  # the client's own way to say that the server refused it
        assert refused_for_size(error), repr(error)
    assert cache.get("huge") is None, "2 MB were taken"
    assert cache.get("kept") == 1, "the connection is usable after a refused value"
    assert cache.delete("kept") is True and cache.delete("kept") is False
    cache.clear()
    assert cache.get("a") is None
    cache.close()


{
    "pymemcache": pymemcache,
    "pylibmc": pylibmc,
    "pylibmc-binary": lambda: pylibmc(binary=True),
    "python-memcached": python_memcached,
    "aiomcache": aiomcache,
    "emcache": emcache,
    "django-pymemcache": lambda: django("PyMemcacheCache"),
    "django-pylibmc": lambda: django("PyLibMCCache"),
    "django-pylibmc-binary": lambda: django("PyLibMCCache", OPTIONS={"binary": True}),
}[sys.argv[3]]()
print("fine")
