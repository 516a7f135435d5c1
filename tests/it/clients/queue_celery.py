"""celery as docs/queues.md has it: tasks and a group are run by a worker, their results are got. Arguments: host port."""
import sys

from celery import Celery, group
from celery.contrib.testing.worker import start_worker

url = "redis://%s:%s/0" % (sys.argv[1], sys.argv[2])
app = Celery("queue", broker=url, backend=url)
app.conf.broker_transport_options = {"global_keyprefix": "{celery}"}
app.conf.result_backend_transport_options = {"global_keyprefix": "{celery}"}


@app.task
def add(one, other):
    return one + other


@app.task
def fail():
    raise ValueError("meant")


with start_worker(app, pool="solo", perform_ping_check=False, loglevel="error"):
    results = [add.delay(number, 2) for number in range(10)]
    assert [result.get(timeout=20) for result in results] == list(range(2, 12))
    assert group(add.s(number, number) for number in range(5))().get(timeout=20) == [0, 2, 4, 6, 8]
    assert add.apply_async((1, 1), countdown=0.2).get(timeout=20) == 2
    assert isinstance(fail.delay().get(timeout=20, propagate=False), ValueError)
print("fine")
