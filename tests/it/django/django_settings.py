"""Settings for Django's own tests: the cache of one backend, BACKEND, at AT (host:port). Each test that passes is told."""

import os
import unittest

from django.test.runner import DiscoverRunner

SECRET_KEY = "tests"
USE_TZ = False
DATABASES = {name: {"ENGINE": "django.db.backends.sqlite3"} for name in ("default", "other")}
AT = os.environ["AT"]
CACHES = {
    "default": {
        "pymemcache": {"BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache", "LOCATION": AT},
        "pylibmc": {"BACKEND": "django.core.cache.backends.memcached.PyLibMCCache", "LOCATION": AT},
        "redis": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": f"redis://{AT}"},
    }[os.environ["BACKEND"]]
}


class Result(unittest.TextTestResult):
    def addSuccess(self, test):
        super().addSuccess(test)
        print("passed", test.id(), flush=True)


class Runner(DiscoverRunner):
    def get_resultclass(self):
        return Result


TEST_RUNNER = "django_settings.Runner"
