// ---- the page

const byId = id => document.getElementById(id);
const ICONS = { good: ['%231a7437', ''], warn: ['%23d08700', ''], bad: ['%23c62828', 'M5 5l6 6M11 5l-6 6'], none: ['%23808080', ''] };
let pools = [];       // PoolViews, as in the answer
let shape = '';       // names of all pools and servers: another shape, other nodes
let answers = [];     // of the last seconds, for rates of what is told as totals
let events = [];      // the newest first, `at` in ms since the proxy's start
let started = 0;      // when the proxy started, by this machine's clock
let heard = 0;        // last answer
let asked = 0;        // since when an answer is waited for, or 0
let learntAt = 0;     // when the past was asked for last
let failures = 0;     // questions without an answer since the last one that had one
let why = '';         // the last one had none
let unreadable = '';  // what is wrong with the last one that came
let stale = false;    // whether the figures are old; until the next good answer
let spoken = '';

// In ms since the proxy's start, as the times of events.
function now() { return answers.length ? answers.at(-1).uptime_s * 1000 : 0; }

function speak(text) { if (text !== spoken) { spoken = text; byId('spoken').textContent = text; } }

function setLevel(how, title) {
  mark(byId('verdict'), 'data-level', how);
  say(byId('verdict').querySelector('.sign'), SIGNS[how]);
  const [colour, cross] = ICONS[how];
  const icon = `data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><circle cx='8' cy='8' r='7' fill='${colour}'/><path d='${cross}' stroke='white' stroke-width='2'/></svg>`;
  mark(document.querySelector('link[rel=icon]'), 'href', icon);
  if (document.title !== title) document.title = title;
}

// What an answer tells as totals, as rates over the last seconds.
function recently(now, index) {
  const before = answers[0];
  const span = now.uptime_s - before.uptime_s;
  const pool = now.pools[index], earlier = before.pools[index];
  const per = (a, b) => span > 0.2 ? Math.max(0, a - b) / span : 0;
  const old = new Map(earlier.degraded);
  const causes = pool.degraded.map(([cause, n]) => [cause, per(n, old.get(cause) ?? 0)]).filter(([, n]) => n > 0);
  causes.sort((a, b) => b[1] - a[1]);
  return { causes, forwardErrors: per(pool.forward_errors, earlier.forward_errors), serverErrors: per(pool.server_errors, earlier.server_errors) };
}

// The past: when the page is opened, after a pause of it, and now and then to have it in longer steps.
async function learn() {
  const before = learntAt;
  learntAt = Date.now();
  try {
    const answer = await fetch('history', { cache: 'no-store', signal: AbortSignal.timeout(GIVE_UP) });
    const told = answer.ok ? await answer.json() : null;
    if (!Array.isArray(told?.ago_s) || shapeOf(told) !== shapeOf(answers.at(-1))) return;
    const time = Date.now();
    const ends = told.ago_s.map(ago => time - ago * 1000);
    const spans = told.for_s.map(span => span * 1000);
    told.pools.forEach((pool, index) => pools[index].learn(pool, ends, spans));
    if (!before) {
      events = []; // the history has the newest as well, and all before them
      rememberEvents(told);
    }
  } catch (error) {
    console.info(`no past: ${error.message}`);
    learntAt = 0;
  }
}

function shapeOf(answer) { return JSON.stringify(answer.pools.map(pool => [pool.name, pool.servers.map(server => server.name)])); }

function show(now) {
  const time = Date.now();
  const gap = heard ? time - heard : PERIOD;
  const names = JSON.stringify(now.pools.map(pool => [pool.name, pool.listen, pool.servers.map(server => server.name)]));
  const restarted = now.uptime_s < (answers.at(-1)?.uptime_s ?? 0);
  if (names !== shape || restarted) [answers, events, learntAt] = [[], [], 0];
  if (gap > 3.5 * PERIOD) learntAt = 0;
  if (names !== shape || restarted) {
    shape = names;
    pools = now.pools.map((pool, index) => new PoolView(pool, index));
    byId('pools').replaceChildren(...pools.map(pool => pool.root));
  }
  const span = answers.length ? (now.uptime_s - answers.at(-1).uptime_s) * 1000 : PERIOD;
  answers.push(now);
  while (answers[0].uptime_s < now.uptime_s - 5.5) answers.shift();
  if (Math.abs(started - (time - now.uptime_s * 1000)) > 2000) started = time - now.uptime_s * 1000;

  rememberEvents(now);
  const total = now.pools.reduce((sum, pool) => sum + pool.servers.length, 0);
  const found = now.pools.map((pool, index) => {
    const recent = recently(now, index);
    pools[index].remember(pool, time, span);
    const found = troubles(pool, recent, pool.servers.filter((_, n) => pools[index].rows[n].slow), now.pools.length > 1);
    pools[index].show(pool, recent, found, total <= FEW);
    return found.map(trouble => ({ ...trouble, index }));
  });
  const order = now.pools.map((_, index) => index).sort((a, b) => (level(found[b]) === 'bad') - (level(found[a]) === 'bad') || a - b);
  arrange(byId('pools'), order.map(index => pools[index].root));
  showVerdict(now, found.flat().sort((a, b) => RANKS[a.level] - RANKS[b.level]), total);
  showEvents(now);
  byId('tools').hidden = false;

  say(byId('host'), now.host ? `on ${plain(now.host)}` : '');
  say(byId('about'), `version ${now.version} · running for ${duration(now.uptime_s * 1000)} · ${some(now.workers, 'worker')} · ${bytes(now.buffered_bytes)} of ${bytes(now.memory_limit_bytes)} of memory in use for requests`);
  byId('about').className = now.buffered_bytes > 0.8 * now.memory_limit_bytes ? 'bad' : '';
  say(byId('window'), String(Math.max(1, Math.round(now.window_s))));
}

function tell(item, trouble) {
  const [link, rest] = item.children;
  mark(link, 'href', '#pool-' + trouble.index);
  say(link.firstChild, plain(trouble.who));
  say(rest, trouble.rest);
}

function told() { return node('span', {}, node('a', {}, node('bdi')), node('span')); }

// What is over, but was in the time that is remembered; the newest first.
function over(now) {
  const rows = now.pools.flatMap((pool, index) => pools[index].rows.map((row, at) => ({ row, index, pool, server: pool.servers[at] })));
  return rows.filter(({ row }) => row.outage).sort((a, b) => b.row.outage.back - a.row.outage.back).map(({ row, index, pool, server }) => ({
    level: 'past', index, who: server.name,
    rest: `${now.pools.length > 1 ? ` in ${plain(pool.name)}` : ''} ${row.outage.text}, back at ${clock(started + row.outage.back)}`,
  }));
}

function showVerdict(now, found, total) {
  const out = now.pools.flatMap(pool => pool.servers).filter(server => server.state !== 'up').length;
  const servers = total === 1 ? 'the only server is' : `all ${total} servers are`;
  const summary = out ? `${out} of ${total} servers ${out === 1 ? 'is' : 'are'} out of service` : `${servers} in service`;
  const how = level(found);
  const headline = byId('headline');
  if (found.length === 1) {
    if (headline.children.length !== 1) headline.replaceChildren(told());
    tell(headline.firstChild, found[0]);
  } else {
    say(headline, summary[0].toUpperCase() + summary.slice(1) + (found.length && !out ? ', but not all is well' : ''));
  }
  const troubles = found.length > 1 ? found : [];
  const all = [...troubles, ...over(now)];
  const listed = all.slice(0, TOLD);
  const rest = all.length - listed.length;
  byId('problems').hidden = !listed.length;
  list(byId('problems'), listed, () => node('li', {}, node('span', { class: 'sign', 'aria-hidden': 'true' }), told()), (item, trouble) => {
    mark(item, 'data-level', trouble.level);
    say(item.firstChild, SIGNS[trouble.level]);
    tell(item.lastChild, trouble);
  });
  if (rest) byId('problems').append(node('li', { class: 'soft' }, `and ${rest} more below`));
  const host = now.host ? ` on ${plain(now.host)}` : '';
  setLevel(how, (how === 'good' ? '' : out ? `${out} out of service – ` : 'trouble – ') + 'softmiss' + host);
  speak(found.length ? found.slice(0, 3).map(trouble => `${plain(trouble.who)} ${trouble.spoken}`).join('; ') : summary);
}

// The answer has only the newest; what was seen before is kept.
function rememberEvents(now) {
  const told = now.events.map(event => ({ ...event, at: now.uptime_s * 1000 - event.ago_ms }));
  const last = events[0];
  const same = event => last && event.text === last.text && event.server === last.server && event.pool === last.pool && Math.abs(event.at - last.at) < 5;
  const known = told.findIndex(same);
  events.unshift(...(known < 0 ? told : told.slice(0, known)));
  events.length = Math.min(events.length, EVENTS);
}

function showEvents(now) {
  const rows = [];
  for (const event of events) {
    const who = (now.pools.length > 1 ? event.pool + ' / ' : '') + event.server;
    const silent = Number(/^silent for (\d+) ms/.exec(event.text)?.[1]);
    const before = rows.at(-1);
    // Stalls come in swarms when a whole machine is slow; what else happened should not drown in them.
    if (silent && before?.silent) {
      before.who.add(who);
      before.times += 1;
      before.silent = Math.max(before.silent, silent);
      before.text = `silent ${before.times} times for up to ${before.silent} ms, answered by the proxy`;
    } else {
      const how = !event.trouble ? 'good' : event.text.startsWith('out of service after') ? 'bad' : 'warn';
      rows.push({ at: event.at, how, who: new Set([who]), text: event.text, silent, times: 1 });
    }
  }
  if (events.length < EVENTS_SHOWN) rows.push({ at: 0, how: 'good', who: [], text: 'softmiss was started' });
  byId('events').hidden = false;
  const make = () => node('li', {}, ...['sign', 'time', 'ago soft', 'who', 'text'].map(kind => node('span', { class: kind })));
  list(byId('events').querySelector('ol'), rows.slice(0, EVENTS_SHOWN), make, (item, row) => {
    const [who, ...others] = row.who;
    const ago = duration(Math.max(0, now.uptime_s * 1000 - row.at)) + ' ago';
    mark(item, 'data-level', row.how);
    [SIGNS[row.how], clock(started + row.at), ago, plain(who ?? '') + (others.length ? ` and ${some(others.length, 'other')}` : ''), plain(row.text)]
      .forEach((text, index) => say(item.children[index], text));
  });
}

// Whether the figures can be believed; runs also while an answer is waited for.
function showAge() {
  stale ||= failures >= 2 || unreadable || (asked && performance.now() - asked > PATIENCE);
  document.body.classList.toggle('stale', Boolean(stale));
  if (!stale) return;
  const since = heard ? ` has not answered for ${duration(Date.now() - heard)} (since ${clock(heard)})` : ' does not answer';
  const old = heard ? '. All figures below are from then' : '';
  byId('problems').hidden = true;
  say(byId('headline'), unreadable ? `This page cannot read what the proxy says: ${unreadable}` : `The proxy${since}${why ? ': ' + why : ''}${old}.`);
  setLevel('bad', 'no answer – softmiss');
  speak('The proxy does not answer, all figures are old');
}

async function ask() {
  if (asked) return;
  asked = performance.now();
  const began = asked;
  let now = null;
  try {
    const answer = await fetch('servers', { cache: 'no-store', signal: AbortSignal.timeout(GIVE_UP) });
    if (!answer.ok) throw new Error(`it says ${answer.status}`);
    now = await answer.json();
  } catch (error) {
    failures += 1;
    why = error.message.startsWith('it says') ? error.message : error.name === 'TimeoutError' ? 'it is silent' : '';
  }
  asked = 0;
  if (now) {
    try {
      show(now);
      [failures, why, unreadable, stale, heard] = [0, '', '', false, Date.now()];
      showAge(); // before anything else is waited for
      if (Date.now() - learntAt > LEARN) {
        await learn();
        redraw();
      }
    } catch (error) {
      unreadable = error.message;
      console.error(error);
    }
  }
  showAge();
  // One question without an answer may be a connection that was just closed: ask again at once.
  const pause = failures === 1 ? 200 : PERIOD - (performance.now() - began);
  timer = setTimeout(ask, Math.max(pause, 100));
}

function redraw() { pools.forEach(pool => pool.redraw()); }

// How far back the drawings go is the user's choice.
byId('spans').append(...SPANS.map(span => {
  const button = node('button', { type: 'button' }, `last ${ago(span)}`);
  button.addEventListener('click', () => { chosenSpan = span; redraw(); showSpans(); });
  return button;
}));

function showSpans() {
  [...byId('spans').children].forEach((button, index) => mark(button, 'aria-pressed', String(SPANS[index] === chosenSpan)));
}

showSpans();
let timer = 0;
setInterval(showAge, 500);
// A hidden page is woken seldom; one that is looked at again asks at once.
document.addEventListener('visibilitychange', () => { if (!document.hidden) { clearTimeout(timer); ask(); } });
// A link to a pool opens it.
byId('verdict').addEventListener('click', event => {
  const link = event.target.closest('a');
  const pool = pools.find(pool => link && link.hash === '#' + pool.root.id);
  if (pool) pool.touched = pool.root.open = true;
});
ask();
