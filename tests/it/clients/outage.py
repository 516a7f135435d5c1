"""Uses Django's cache for a while and prints what went wrong. Arguments: host port backend seconds."""

import hashlib
import sys
import time

WHERE = f"{sys.argv[1]}:{sys.argv[2]}"
BACKEND, SECONDS = sys.argv[3], float(sys.argv[4])

import django
from django.conf import settings

settings.configure(CACHES={"default": {"BACKEND": f"django.core.cache.backends.memcached.{BACKEND}", "LOCATION": WHERE}})
django.setup()
from django.core.cache import cache

calls = exceptions = wrong = hits = 0
# Django deletes a key that it could not set, so one `set` of its can be two requests.
slowest = {True: 0.0, False: 0.0}
first = None
print("started", flush=True)
end = time.monotonic() + SECONDS
number = 0


def page(number):
    """One of a thousand keys. Hashed: short ones in sequence would all belong to one server of the ring."""
    return hashlib.md5(str(number * 7 % 1000).encode()).hexdigest()


def call(what, *arguments):
    """Calls and counts; an exception is what must not happen."""
    global calls, exceptions, first
    start = time.monotonic()
    calls += 1
    try:
        return what(*arguments)
    except Exception as error:
        exceptions += 1
        first = first or f"{what.__name__}: {error!r}"
    finally:
        double = what == cache.set
        slowest[double] = max(slowest[double], time.monotonic() - start)


while time.monotonic() < end:
    number += 1
    key = page(number)
    found = call(cache.get, key)
    if found is not None:
        hits += 1
        wrong += found != key * 3
    call(cache.set, key, key * 3)
    if number % 10 == 0:
        keys = [page(number + n) for n in range(20)]
        found = call(cache.get_many, keys) or {}
        wrong += any(value != key * 3 for key, value in found.items())
        call(cache.delete, key)
        call(cache.touch, key, 50)
        call(cache.set_many, {key: key * 3 for key in keys})
    time.sleep(0.001)
print(
    f"calls {calls} hits {hits} wrong {wrong} exceptions {exceptions} "
    f"slowest_ms {slowest[False] * 1000:.0f} slowest_set_ms {slowest[True] * 1000:.0f} first {first}"
)
