// Asks memcached or memjs of Node for some seconds. Arguments: host port seconds, then memcached, memjs, or tuned (memcached as the book has it).
const [host, port, seconds, what] = process.argv.slice(2);
const from = require("module").createRequire(process.env.MODULES + "/");
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
let get, set;
if (what === "memjs") {
  const client = from("memjs").Client.create(`${host}:${port}`, { logger: { log() {} } });
  get = async (key) => (await client.get(key)).value;
  set = (key) => client.set(key, "value", { expires: 60 });
} else {
  const tuned = { failures: 1000000, retry: 500, retries: 0, timeout: 2000, idle: 0 };
  const client = new (from("memcached"))(`${host}:${port}`, what === "tuned" ? tuned : {});
  const call = (name, ...given) => new Promise((done, fail) => client[name](...given, (error, got) => (error ? fail(error) : done(got))));
  get = (key) => call("get", key);
  set = (key) => call("set", key, "value", 60);
}
(async () => {
  for (let n = 0, end = Date.now() + seconds * 1000; Date.now() < end; n++) {
    const [key, start] = [`key${n % Number(process.env.KEYS)}`, Date.now()];
    let said;
    const never = sleep(20000).then(() => "error never called back");
    const asked = (async () => {
      const got = await get(key);
      if (got === undefined || got === null) { await set(key).catch(() => {}); return "miss"; }
      return "hit";
    })().catch((error) => `error ${String(error.message || error).slice(0, 60).replace(/\n/g, " ")}`);
    said = await Promise.race([asked, never]);
    console.log(`${(start / 1000).toFixed(3)} ${Date.now() - start} ${said}`);
    await sleep(10);
  }
  process.exit(0);
})();
