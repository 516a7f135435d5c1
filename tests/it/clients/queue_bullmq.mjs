// BullMQ as docs/queues.md has it: jobs are done, fail and wait as they should. Arguments: host port modules.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [host, port, modules] = [process.argv[2], Number(process.argv[3]), process.argv[4]];
const require = createRequire(`${modules}/`);
const { Queue, QueueEvents, Worker } = require("bullmq");
const options = { connection: { host, port, maxRetriesPerRequest: null }, prefix: "{bull}" };
const queue = new Queue("q", options);
const events = new QueueEvents("q", options);
const work = async (job) => {
  if (job.data.bad) throw new Error("meant");
  return job.data.number + 1;
};
const worker = new Worker("q", work, { ...options, concurrency: 3 });
for (const one of [queue, events, worker]) {
  one.on("error", (error) => assert.fail(error));
}
await events.waitUntilReady();
const numbers = [...Array(10).keys()];
const jobs = await queue.addBulk(numbers.map((number) => ({ name: "n", data: { number } })));
const done = await Promise.all(jobs.map((job) => job.waitUntilFinished(events, 20000)));
assert.deepEqual(done, numbers.map((number) => number + 1));
const bad = await queue.add("bad", { bad: true });
await assert.rejects(bad.waitUntilFinished(events, 20000), /meant/);
const late = await queue.add("late", { number: 41 }, { delay: 100 });
assert.equal(await late.waitUntilFinished(events, 20000), 42);
assert.deepEqual(await queue.getJobCounts("completed", "failed"), { completed: 11, failed: 1 });
assert.equal((await queue.getWorkers()).length, 1); // found in CLIENT LIST by its name
await Promise.all([worker.close(), events.close(), queue.close()]);
process.stdout.write("fine\n", () => process.exit(0));
