// Ordinary use of memcached and of memjs. Arguments: host port, which of the two, and where they are installed.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [host, port, which, modules] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const keys = Array.from({ length: 200 }, (_, n) => `key:${n}`);
const big = "x".repeat(900_000);

// The text protocol.
async function memcached() {
  const Memcached = require("memcached");
  const plain = new Memcached(`${host}:${port}`, { timeout: 5000, retries: 0, maxValue: 2 << 20 });
  const client = new Proxy(plain, {
    get: (_, name) => (...given) =>
      new Promise((done, failed) => plain[name](...given, (error, told) => (error ? failed(error) : done(told)))),
  });
  await client.flush();
  assert.equal(await client.set("a", "1", 100), true);
  assert.equal(await client.get("a"), "1");
  assert.equal(await client.get("never"), undefined);
  await assert.rejects(client.add("a", "2", 100));
  assert.equal(await client.add("new", "2", 100), true);
  assert.equal(await client.replace("a", "5", 100), true);
  await assert.rejects(client.replace("never", "5", 100));
  assert.equal(await client.incr("n", 1), false);
  assert.equal(await client.set("n", 1, 0), true);
  assert.equal(await client.incr("n", 4), 5);
  assert.equal(await client.decr("n", 2), 3);
  assert.equal(await client.set("text", "b", 100), true);
  assert.equal(await client.append("text", "c"), true);
  assert.equal(await client.prepend("text", "a"), true);
  assert.equal(await client.get("text"), "abc");
  const { cas } = await client.gets("text");
  assert.equal(await client.cas("text", "new", cas, 100), true);
  assert.equal(await client.cas("text", "newer", cas, 100), false);
  assert.equal(await client.touch("text", 50), true);
  await Promise.all(keys.map((key) => client.set(key, { key, list: [1, 2] }, 100)));
  const found = await client.getMulti([...keys, "never"]);
  assert.deepEqual(found, Object.fromEntries(keys.map((key) => [key, { key, list: [1, 2] }])));
  assert.equal(await client.set("big", big, 100), true);
  assert.equal(await client.get("big"), big);
  // A value that is too large is left out: this client then takes the server for dead, whichever it is.
  assert.equal(await client.del("a"), true);
  assert.equal(await client.del("a"), false);
  const [version] = await client.version();
  assert.equal(version.version.split(".").slice(0, 2).join("."), "1.6");
  const [stats] = await client.stats();
  assert("curr_items" in stats);
  const [settings] = await client.settings();
  assert("maxbytes" in settings);
  assert((await client.items()).length > 0);
  await client.flush();
  assert.equal(await client.get("n"), undefined);
  plain.end();
}

// The binary protocol.
async function memjs() {
  const { Client } = require("memjs");
  const client = Client.create(`${host}:${port}`, {
    timeout: 5,
    conntimeout: 5,
    retries: 1,
    username: process.env.SOFTMISS_USER,
    password: process.env.SOFTMISS_PASSWORD,
  });
  const get = async (key) => (await client.get(key)).value?.toString() ?? null;
  await client.flush();
  assert.equal(await client.set("a", "1", { expires: 100 }), true);
  assert.equal(await get("a"), "1");
  assert.equal(await get("never"), null);
  assert.equal(await client.add("a", "2", { expires: 100 }), false);
  assert.equal(await client.add("new", "2", { expires: 100 }), true);
  assert.equal(await client.replace("a", "5", { expires: 100 }), true);
  assert.equal(await client.replace("never", "5", { expires: 100 }), false);
  assert.deepEqual((await client.increment("n", 1, { initial: 7 })).value, 7);
  assert.deepEqual((await client.increment("n", 4, {})).value, 11);
  assert.deepEqual((await client.decrement("n", 2, {})).value, 9);
  assert.equal(await client.set("text", "b", {}), true);
  assert.equal(await client.append("text", "c"), true);
  assert.equal(await client.prepend("text", "a"), true); // which this version sends as an append
  assert.match(await get("text"), /^(abc|bca)$/);
  assert.equal(await client.touch("text", 50), true);
  assert.equal(await client.touch("never", 50), false);
  await Promise.all(keys.map((key) => client.set(key, key, {})));
  assert.deepEqual(await Promise.all(keys.map(get)), keys);
  assert.equal(await client.set("big", big, {}), true);
  assert.equal(await get("big"), big);
  const refused = await client.set("huge", "x".repeat((1 << 20) + 500_000), {}).catch(() => false);
  assert.equal(refused, false);
  assert.equal(await get("a"), "5", "the connection is usable after a refused value");
  assert.equal(await client.delete("a"), true);
  assert.equal(await client.delete("a"), false);
  const stats = await new Promise((done, failed) => client.stats((error, _, told) => (error ? failed(error) : done(told))));
  assert("curr_items" in stats);
  await client.flush();
  assert.equal(await get("n"), null);
  client.quit();
}

await { memcached, memjs }[which]();
console.log("fine");
process.exit(0);
