// Ordinary use of ioredis and of node-redis. Arguments: host port, then which of the two.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [host, port, which, modules] = [process.argv[2], Number(process.argv[3]), process.argv[4], process.argv[5]];
const require = createRequire(`${modules}/`);
const keys = Array.from({ length: 100 }, (_, n) => `key:${n}`);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const until = async (what, is) => {
  const end = Date.now() + 5000;
  while (!is()) {
    assert(Date.now() < end, what);
    await pause(10);
  }
};

async function ioredis() {
  const { Redis } = require("ioredis");
  const r = new Redis({ host, port });
  await r.flushall();
  assert.equal(await r.set("a", "1"), "OK");
  assert.equal(await r.get("a"), "1");
  assert.equal(await r.get("nothing"), null);
  assert.equal(await r.set("a", "2", "NX"), null);
  const big = Buffer.alloc(5_000_000, 7);
  await r.set("big", big);
  assert((await r.getBuffer("big")).equals(big));
  await r.mset(Object.fromEntries(keys.map((key) => [key, key])));
  assert.deepEqual(await r.mget(...keys, "nothing"), [...keys, null]);
  await r.hset("h", { f: "v", g: "w" });
  assert.deepEqual(await r.hgetall("h"), { f: "v", g: "w" });
  const piped = await r.pipeline(keys.map((key) => ["get", key])).exec();
  assert.deepEqual(piped, keys.map((key) => [null, key]));
  const made = await r.multi().set("x", 1).incr("x").mget("x", "key:1", "key:2").exec();
  assert.deepEqual(made, [[null, "OK"], [null, 2], [null, ["2", "key:1", "key:2"]]]);
  await assert.rejects(r.lpush("a", 1), /WRONGTYPE/);
  r.defineCommand("add", { numberOfKeys: 1, lua: "return redis.call('INCRBY', KEYS[1], ARGV[1])" });
  for (let n = 0; n < 10; n += 1) assert.equal(await r.add(`script:${n}`, n), n);
  const found = new Set();
  for await (const some of r.scanStream({ match: "key:*", count: 10 })) some.forEach((key) => found.add(key));
  assert.deepEqual([...found].sort(), [...keys].sort());
  const id = await r.xadd("stream", "*", "k", "v");
  const read = await r.xread("COUNT", 5, "STREAMS", "stream", "0");
  assert(JSON.stringify(read).includes(id));
  const other = new Redis({ host, port });
  const popped = other.blpop("queue", 5);
  await pause(100);
  await r.rpush("queue", "job");
  assert.deepEqual(await popped, ["queue", "job"]);
  assert.equal(await other.blpop("queue", 0.2), null);
  const messages = [];
  const listener = new Redis({ host, port });
  listener.on("message", (channel, message) => messages.push([channel, message]));
  assert.equal(await listener.subscribe("one", "two", "three"), 3);
  for (const channel of ["one", "two", "three"]) await r.publish(channel, `to ${channel}`);
  await until("messages", () => messages.length === 3);
  assert.deepEqual(messages.map(([channel]) => channel).sort(), ["one", "three", "two"]);
  await listener.unsubscribe();
  for (const one of [r, other, listener]) await one.quit();
}

async function nodeRedis() {
  const { createClient } = require("redis");
  const r = createClient({ socket: { host, port } });
  r.on("error", (error) => { throw error; });
  await r.connect();
  await r.flushAll();
  await r.set("a", "1");
  assert.equal(await r.get("a"), "1");
  assert.equal(await r.get("nothing"), null);
  assert.equal(await r.set("a", "2", { NX: true }), null);
  const big = "x".repeat(5_000_000);
  await r.set("big", big);
  assert.equal(await r.get("big"), big);
  await r.mSet(Object.fromEntries(keys.map((key) => [key, key])));
  assert.deepEqual(await r.mGet([...keys, "nothing"]), [...keys, null]);
  await r.hSet("h", { f: "v", g: "w" });
  assert.deepEqual({ ...(await r.hGetAll("h")) }, { f: "v", g: "w" });
  assert.deepEqual(await Promise.all(keys.map((key) => r.get(key))), keys);
  const made = await r.multi().set("x", "1").incr("x").mGet(["x", "key:1", "key:2"]).exec();
  assert.deepEqual(made, ["OK", 2, ["2", "key:1", "key:2"]]);
  await r.zAdd("z", [{ score: 1.5, value: "m" }]);
  assert.equal(await r.zScore("z", "m"), 1.5);
  await assert.rejects(r.lPush("a", "1"), /WRONGTYPE/);
  assert.equal(await r.eval("return redis.call('INCRBY', KEYS[1], ARGV[1])", { keys: ["n"], arguments: ["5"] }), 5);
  const found = new Set();
  for await (const some of r.scanIterator({ MATCH: "key:*", COUNT: 10 })) {
    (Array.isArray(some) ? some : [some]).forEach((key) => found.add(key));
  }
  assert.deepEqual([...found].sort(), [...keys].sort());
  await r.xAdd("stream", "*", { k: "v" });
  assert.equal((await r.xRange("stream", "-", "+")).length, 1);
  const other = r.duplicate();
  await other.connect();
  const popped = other.blPop("queue", 5);
  await pause(100);
  await r.rPush("queue", "job");
  assert.deepEqual({ ...(await popped) }, { key: "queue", element: "job" });
  assert.equal(await other.blPop("queue", 0.2), null);
  const messages = [];
  const listener = r.duplicate();
  await listener.connect();
  await listener.subscribe(["one", "two", "three"], (message, channel) => messages.push([channel, message]));
  await listener.pSubscribe("tw*", (message, channel) => messages.push([`p${channel}`, message]));
  for (const channel of ["one", "two", "three"]) await r.publish(channel, `to ${channel}`);
  await until("messages", () => messages.length === 4);
  assert.deepEqual(messages.map(([channel]) => channel).sort(), ["one", "ptwo", "three", "two"]);
  await listener.unsubscribe();
  await listener.pUnsubscribe();
  for (const one of [r, other, listener]) await one.close();
}

await (which === "ioredis" ? ioredis() : nodeRedis());
console.log("fine");
process.exit(0);
