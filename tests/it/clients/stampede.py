"""Forty workers of Django on two hosts ask for the same things at the same time. How often each was computed.

    stampede.py memcached|redis PORT PORT
"""

import sys
import threading
import time

import django
from django.conf import settings

kind, ports = sys.argv[1], sys.argv[2:]
if kind == "redis":
    backend, place = "django.core.cache.backends.redis.RedisCache", "redis://127.0.0.1:{}"
else:
    backend, place = "django.core.cache.backends.memcached.PyMemcacheCache", "127.0.0.1:{}"
hosts = ["default", "other"]
settings.configure(
    CACHES={host: {"BACKEND": backend, "LOCATION": place.format(port)} for host, port in zip(hosts, ports)},
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
)
django.setup()

from django.core.cache import caches  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.template import engines  # noqa: E402
from django.test import RequestFactory  # noqa: E402
from django.views.decorators.cache import cache_page  # noqa: E402

urlpatterns = []
WORKERS = 40
lock, computed = threading.Lock(), {}


def compute(what):
    with lock:
        computed[what] = computed.get(what, 0) + 1
    time.sleep(0.2)
    return f"a {what}"


def get_or_set(host):
    return caches[host].get_or_set("value", lambda: compute("value"), 60)


def page(host):
    view = cache_page(60, cache=host)(lambda request: HttpResponse(compute("page")))
    return view(RequestFactory().get("/page/")).content.decode()


class Slow:
    def __str__(self):
        return compute("fragment")


def fragment(host):
    text = "{%% load cache %%}{%% cache 60 fragment using=%s %%}{{ slow }}{%% endcache %%}" % repr(host)
    return engines["django"].from_string(text).render({"slow": Slow()})


def many(host):
    names = [f"many:{number}" for number in range(10)]
    found = caches[host].get_many(names)
    if len(found) < len(names):
        text = compute("many")
        caches[host].set_many({name: text for name in names}, 60)
        return text
    return found[names[0]]


wrong = []
for ask in [get_or_set, page, fragment, many]:
    together = threading.Barrier(WORKERS)

    def work(number):
        host = hosts[number % 2]
        caches[host].set(f"connect:{number}", 1)
        together.wait()
        said = ask(host)
        if not said.startswith("a "):
            wrong.append((ask.__name__, said))

    threads = [threading.Thread(target=work, args=[number]) for number in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
if wrong:
    print("wrong:", wrong[:3])
print(" ".join(f"{what} {count}" for what, count in computed.items()))
