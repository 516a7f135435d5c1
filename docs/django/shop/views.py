"""One view for each way to use a cache. None of them knows that there are nodes, or that one may die."""

import threading
import time

from django.core.cache import cache
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import cache_page
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_POST

PRODUCTS = range(1, 21)

# How often this process has computed each report.
computed, counting = {}, threading.Lock()


def now():
    return time.strftime("%H:%M:%S")


@ensure_csrf_cookie
def home(request):
    """A session: a name, and a counter of its own."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    return render(request, "home.html", {"products": PRODUCTS})


@require_POST
def sign_in(request):
    """What django.contrib.auth does with the session when somebody logs in: its content goes on under another key."""
    request.session.cycle_key()
    request.session["name"] = request.POST["name"]
    request.session["visits"] = 0
    return redirect("home")


def count(key):
    """`add` and `incr`. A counter that was on a node that has died begins anew, and is not worth an error page.

    The key may be gone by the time of the `incr`: Django's backends say so with a ValueError. When the node dies just then,
    nobody knows whether it has counted: Django's backend for Redis is told an error, and django-redis, which counts in a
    script, stumbles over a nil.
    """
    cache.add(key, 0, timeout=3600)
    try:
        return cache.incr(key)
    except Exception:
        return 1


def product(request, number):
    """A fragment of a template, a counter, and `touch`: what is looked at stays for another hour."""
    views = count(f"views:{number}")
    cache.touch(f"views:{number}", 3600)
    return render(request, "product.html", {"number": number, "views": views, "now": now()})


def price(number):
    """As if it were a query."""
    return f"{number * 7}.90"


def prices(request):
    """`get_many`, and `set_many` of those that were not there."""
    keys = {f"price:{number}": number for number in PRODUCTS}
    found = cache.get_many(keys)
    missing = {key: price(number) for key, number in keys.items() if key not in found}
    if missing:
        cache.set_many(missing, timeout=60)
    lines = [f"product {number}: {(found | missing)[key]}" for key, number in keys.items()]
    return HttpResponse("\n".join(lines) + "\n", content_type="text/plain")


@cache_page(60)
def catalogue(request, number):
    """A whole page, from the cache for a minute."""
    return HttpResponse(f"catalogue {number}, made at {now()}\n", content_type="text/plain")


def compute(number):
    """Takes long, and is to be done once however many ask: the key is one of those that softmiss.yml names for `stampede`."""
    with counting:
        computed[number] = computed.get(number, 0) + 1
    time.sleep(0.3)
    return f"report {number}, made at {now()}\n"


def report(request, number):
    text = cache.get_or_set(f"report:{number}", lambda: compute(number), timeout=30)
    return HttpResponse(f"{text}computed so far: {computed.get(number, 0)}\n", content_type="text/plain")


@require_POST
def clear(request):
    cache.clear()
    return redirect("home")
