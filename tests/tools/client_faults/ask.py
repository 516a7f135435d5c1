"""Asks pymemcache or pylibmc for some seconds. Arguments: host port seconds, then pymemcache or pylibmc."""

import os
import sys
import time

host, port, seconds, what = sys.argv[1:]
if what == "pymemcache":
    from pymemcache.client.base import Client

    client = Client((host, int(port)), connect_timeout=1, timeout=2)
else:
    import pylibmc

    client = pylibmc.Client([f"{host}:{port}"])
end, n = time.time() + float(seconds), 0
while (start := time.time()) < end:
    key, n = f"key{n % int(os.environ['KEYS'])}", n + 1
    try:
        said = "hit" if client.get(key) else "miss"
        if said == "miss":
            client.set(key, "value", 60)
    except Exception as error:
        said = f"error {type(error).__name__}"
    print(f"{start:.3f} {(time.time() - start) * 1000:.1f} {said}", flush=True)
    time.sleep(0.01)
