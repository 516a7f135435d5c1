"""RQ as docs/queues.md has it: jobs are enqueued, a worker does them, `rq info` tells of them. Arguments: host port."""
import os
import subprocess
import sys

os.environ["RQ_KEY_PREFIX"] = "{rq}"  # before rq is imported

from redis import Redis
from rq import Queue, Worker

url = "redis://%s:%s/0" % (sys.argv[1], sys.argv[2])
rq = [sys.executable, "-m", "rq.cli"]
connection = Redis.from_url(url)
queue = Queue(connection=connection)
jobs = [queue.enqueue("operator.add", number, 1) for number in range(5)]
bad = queue.enqueue("operator.truediv", 1, 0)
last = queue.enqueue("operator.mul", 6, 7, depends_on=jobs)
# A worker is listed, by its name and address, while it is there.
worker = Worker([queue], connection=connection)
worker.register_birth()
assert [one.name for one in Worker.all(connection=connection)] == [worker.name]
worker.register_death()
done = subprocess.run(rq + ["worker", "--burst", "--url", url, "default"], capture_output=True, text=True, timeout=60)
assert done.returncode == 0, done.stderr
assert [job.return_value() for job in jobs] == [1, 2, 3, 4, 5], done.stderr
assert (last.return_value(), bad.is_failed) == (42, True), done.stderr
info = subprocess.run(rq + ["info", "--url", url], capture_output=True, text=True, timeout=60).stdout
assert "6 finished, 1 failed" in info and "1 queues, 0 jobs total" in info, info
print("fine")
