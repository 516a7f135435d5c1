"""Settings of an example shop whose cache outlives its nodes. What differs from place to place comes from the environment:

CACHE       pymemcache (the default), pylibmc, redis or django-redis
CACHE_AT    host:port of the cache, that is of softmiss beside the site
SESSIONS    cached_db (the default) or cache
DATABASE    the file of the database
DEBUG       1 for Django's own error pages
SECRET_KEY  for a real site
"""

import os
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent

CACHE = os.environ.get("CACHE", "pymemcache")
AT = os.environ.get("CACHE_AT") or ("127.0.0.1:16379" if "redis" in CACHE else "127.0.0.1:21211")

# One address each, the proxy's: with a list the client would shard once more. The client's own timeout is longer than the
# pool's (400 ms, and up to 1 s for a key that somebody else computes), so the proxy always answers first.
CACHES = {
    "default": {
        "pymemcache": {
            "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
            "LOCATION": AT,
            "OPTIONS": {"connect_timeout": 1, "timeout": 3, "no_delay": True},
        },
        "pylibmc": {
            "BACKEND": "django.core.cache.backends.memcached.PyLibMCCache",
            "LOCATION": AT,
            # Add "binary": True for the binary protocol: the proxy speaks it on the same port. Mind that timeout=0 then
            # means for ever, with memcached itself as well.
            "OPTIONS": {"behaviors": {"tcp_nodelay": True, "receive_timeout": 3_000_000, "send_timeout": 3_000_000}},
        },
        "redis": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": f"redis://{AT}",
            "OPTIONS": {"socket_connect_timeout": 1, "socket_timeout": 3},
        },
        "django-redis": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": f"redis://{AT}",
            "OPTIONS": {"SOCKET_CONNECT_TIMEOUT": 1, "SOCKET_TIMEOUT": 3},
        },
    }[CACHE]
}

# cached_db: nobody is logged out by a node that dies. With `cache` the sessions of that node are gone.
SESSION_ENGINE = "django.contrib.sessions.backends." + os.environ.get("SESSIONS", "cached_db")

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DATABASE", HERE / "db.sqlite3"),
        # Many threads write sessions: they wait for each other, and readers for nobody.
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        },
    }
}

INSTALLED_APPS = ["django.contrib.sessions", "shop"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
USE_TZ = True
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
DEBUG = os.environ.get("DEBUG") == "1"
SECRET_KEY = os.environ.get("SECRET_KEY", "only-for-this-example")
