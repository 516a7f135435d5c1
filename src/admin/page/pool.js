// ---- one pool

// What is drawn: rates and parts of the last seconds at `at` (ms), and what there was in the `span` (ms) before it.
function point(at, span, figures) { return { at, span, out: figures.states.includes('o'), ...figures }; }

function degradedOf(pool) { return pool.degraded.reduce((sum, [, n]) => sum + n, 0); }

class Tile {
  constructor(name, title, format) {
    this.drawing = format && new Drawing(name, format);
    this.big = node('div', { class: 'big' }, NONE);
    this.note = node('div', { class: 'note' });
    this.root = node('div', { class: format ? 'tile drawn' : 'tile', title }, node('dt', {}, name),
      node('dd', {}, this.big, ...(format ? [this.drawing.svg, this.drawing.axis, this.drawing.range] : []), this.note));
  }

  show(big, note, level) {
    say(this.big, big);
    say(this.note, note);
    this.root.classList.toggle('quiet', level === 'quiet');
    this.big.className = 'big ' + (level ?? '');
  }
}

const COLUMNS = [
  ['state', '', 'state', 'State'], ['name', '', 'server', 'Server'], ['why', '', 'how it was', 'how it was in the time that the drawings show'],
  ['count', 'n spare', 'failures since last answer', 'failures since its last good answer'],
  ['share', '', 'share of keys', 'part of all keys that are its own at this moment'],
  ['rate', 'n', 'requests/s', 'requests per second'], ['hit', 'n', 'hit rate', 'part of the keys asked for that it had'],
  ['p', 'n spare', 'latency p50', 'half of the requests are faster'], ['p', 'n', 'latency p99', '99 of 100 requests are faster'],
  ['count', 'n spare', 'connec\u00adtions', 'connections to it'],
  ['count', 'n spare', 'times out of service', 'how often it was taken out of service since the proxy was started'],
];

class Row {
  constructor() {
    this.sign = node('span', { class: 'sign', 'aria-hidden': 'true' });
    this.word = node('span', { class: 'word' });
    this.name = node('bdi');
    this.address = node('small');
    this.fill = node('b');
    this.share = node('span');
    this.cells = COLUMNS.map(([kind, more, label], index) => node(kind === 'name' ? 'th' : 'td', {
      class: `c-${kind} ${more}`, role: kind === 'name' ? 'rowheader' : 'cell', ...(index > 2 && { 'data-label': label }),
    }));
    const [state, name, why, , share] = this.cells;
    this.strip = new Strip();
    this.why = node('div', { class: 'said' });
    why.append(this.strip.svg, this.why);
    state.append(this.sign, this.word);
    name.append(node('span', { class: 'name' }, this.name, this.address));
    share.append(node('div', { class: 'bar' }, node('i', { 'aria-hidden': 'true' }, this.fill), this.share));
    this.root = node('tr', { role: 'row' }, ...this.cells);
    this.slowness = 0;
    this.troubled = 0;
  }

  // Takes in an answer, seen or not. Order and slowness follow with a delay, so that nothing hops to and fro.
  note(server, pool) {
    const down = server.state !== 'up';
    this.how = down ? (server.held ? 'warn' : 'bad') : server.failures_in_a_row > 0 ? 'warn' : 'good';
    this.slowness = down ? 0 : Math.max(0, Math.min(SLOW_KEPT, this.slowness + (isSlow(server, pool) ? 1 : -1)));
    this.slow = this.slowness >= (this.slow ? 1 : SLOW_AFTER);
    if (this.how !== 'good' || this.slow) this.troubled = Date.now();
    this.rank = down ? 0 : Date.now() - this.troubled < HOP ? 1 : 2;
  }

  show(server, pool) {
    const { how } = this;
    mark(this.root, 'data-level', how);
    mark(this.root, 'data-server', server.name);
    say(this.sign, server.state === 'probing' ? '↻' : SIGNS[how]);
    say(this.word, server.draining ? 'draining' : server.state !== 'up' ? 'out of service' : server.failures_in_a_row ? 'failing' : 'in service');
    say(this.name, plain(server.name));
    say(this.address, server.name === server.address ? '' : plain(server.address));
    const why = [];
    this.outage = null;
    if (server.state !== 'up') {
      const lasts = server.out_for_ms ?? 0;
      why.push(`out of service since ${clock(Date.now() - lasts)} (${duration(lasts)}): ${plain(server.reason ?? 'failed')}`);
      if (server.draining) why.push(server.in_flight > 0 ? `${some(server.in_flight, 'request')} still to answer` : 'no request left to answer');
      const probe = server.next_probe_ms;
      if (server.state === 'probing') why.push('health check under way');
      else if (probe != null) why.push(probe < 1000 ? 'health check at once' : `next health check in ${duration(probe)}`);
    } else if (server.failures_in_a_row && server.reason) {
      why.push(`fails: ${plain(server.reason)}`);
    } else if (server.ejections > 0) {
      this.outage = lastOutage(pool, server);
      if (this.outage) {
        const { back, lasted, reason } = this.outage;
        this.outage.text = `was out of service for ${duration(lasted)}${reason ? ` (${plain(reason)})` : ''}`;
        why.push(`back at ${clock(started + back)}, ${this.outage.text}`);
      }
    }
    if (server.in_queue_bytes > 65536) why.push(`${bytes(server.in_queue_bytes)} wait for it`);
    if (this.slow) why.push('slower than the others');
    say(this.why, why.join(', '));
    this.why.classList.toggle('soft', Boolean(this.outage) && !this.slow);
    const texts = [count(server.failures_in_a_row), null, rate(server.requests_per_s), percent(server.hit_rate),
      latency(server.latency.p50_us), latency(server.latency.p99_us), count(server.connections), count(server.ejections)];
    texts.forEach((text, index) => text != null && say(this.cells[index + 3], text));
    for (const index of [3, 9, 10]) this.cells[index].classList.toggle('soft', texts[index - 3] === '0');
    this.why.classList.toggle('warn', this.slow);
    this.cells[8].classList.toggle('warn', this.slow);
    const most = Math.max(...pool.servers.map(other => other.share)) || 1;
    const width = (server.share / most * 100).toFixed(1) + '%';
    if (this.fill.style.width !== width) this.fill.style.width = width;
    say(this.share, percent(server.share));
  }
}

class PoolView {
  constructor(pool, index) {
    this.past = [];      // the oldest first; see `point` below
    this.before = null;  // the answer before
    this.touched = false;
    this.wellSince = 0;
    this.sign = node('span', { class: 'sign', 'aria-hidden': 'true' });
    this.count = node('span', { class: 'count' });
    this.brief = ['rate', 'hits', 'p99'].map(kind => node('span', { class: 'figure ' + kind }));
    this.small = new Drawing('requests per second', rate);
    const where = node('small', {}, `${pool.protocol} on ${plain(pool.listen)}`);
    const summary = node('summary', {}, this.sign,
      node('span', {}, node('h2', {}, node('span', { class: 'fold', 'aria-hidden': 'true' }), ' ', node('bdi', {}, plain(pool.name))), where),
      this.count, ...this.brief, this.small.svg);
    this.tiles = {
      rate: new Tile('requests/s', 'of the last seconds', rate),
      hits: new Tile('hit rate', 'part of the keys asked for that were there; dashed: what clients saw', value => percent(value)),
      p99: new Tile('latency, p99', 'from a request\'s arrival to its answer', latency),
      instead: new Tile('answered for failed servers', 'by the proxy itself, because their server failed', value => rate(value) + '/s'),
      clients: new Tile('clients', 'connections of clients'),
      errors: new Tile('errors sent to clients', ''),
    };
    if (pool.stampede) this.tiles.calm = new Tile('misses that waited', 'for a value that somebody else computed, on any host (stampede)');
    this.body = node('tbody', { role: 'rowgroup' });
    this.rows = pool.servers.map(() => new Row());
    this.body.append(...this.rows.map(row => row.root));
    const heads = COLUMNS.map(([kind, more, label, title]) =>
      node('th', { class: `c-${kind} ${more}`, scope: 'col', role: 'columnheader', title }, label));
    const table = node('table', { role: 'table', 'aria-label': `servers of ${plain(pool.name)}` },
      node('thead', { role: 'rowgroup' }, node('tr', { role: 'row' }, ...heads)), this.body);
    this.unfolded = false;
    this.more = node('button', { type: 'button', hidden: '' });
    this.more.addEventListener('click', () => { this.unfolded = !this.unfolded; this.showInside(); });
    this.keys = node('tbody', { role: 'rowgroup' });
    this.hot = node('section', { class: 'keys', hidden: '' }, node('h3', { title: 'from a sample of the requests of the last ten to twenty seconds' }, 'Keys that are asked for most'), node('table', {},
      node('thead', {}, node('tr', {}, node('th', { scope: 'col' }, 'key'), node('th', { scope: 'col', class: 'c-on' }, 'server'), node('th', { scope: 'col', class: 'n c-rate' }, 'requests/s'),
        node('th', { scope: 'col', class: 'n c-share' }, 'bytes/s'))), this.keys));
    this.root = node('details', { id: 'pool-' + index }, summary, node('div', { class: 'inside' },
      node('dl', { class: 'tiles' }, ...Object.values(this.tiles).map(tile => tile.root)), table, this.more, this.hot));
    // The user's word holds until the next trouble; opening by program is no word of the user.
    summary.addEventListener('click', () => { this.touched = true; });
    this.root.addEventListener('toggle', () => this.root.open && this.pool && this.showInside());
  }

  // Takes in an answer to `/servers` of so many ms after the one before it.
  remember(pool, at, span) {
    this.rows.forEach((row, index) => row.note(pool.servers[index], pool));
    const { requests_per_s, hit_rate, client_hit_rate, latency: { p99_us } } = pool;
    const grown = of => this.before ? Math.max(0, of(pool) - of(this.before)) : 0;
    const states = pool.servers.map((server, index) => {
      const left = this.before && server.ejections > this.before.servers[index].ejections;
      return server.state !== 'up' ? (server.held ? 'h' : 'o') : left ? 'o' : server.failures_in_a_row > 0 ? 'f' : '.';
    });
    this.past.push(point(at, span, {
      rate: requests_per_s, hits: hit_rate, seen: client_hit_rate, p99: p99_us, instead: pool.degraded_per_s,
      answeredFor: grown(degradedOf), errors: grown(pool => pool.forward_errors + pool.server_errors), states,
    }));
    this.before = pool;
    while (this.past[0].at < at - REMEMBERED * 1000) this.past.shift();
  }

  // Takes in the pool's part of `/history`, whose points end at `ends` and tell of `spans` (ms).
  learn(told, ends, spans) {
    const states = told.servers.map(server => server.states);
    const learnt = ends.map((at, index) => {
      // Where points are a second apart, rates are those of the last five, as they are told of the moment.
      let first = index;
      while (first > 0 && at - (ends[first - 1] - spans[first - 1]) < 5500) first -= 1;
      const sum = column => told[column].slice(first, index + 1).reduce((sum, n) => sum + n, 0);
      const seconds = (at - (ends[first] - spans[first])) / 1000;
      const part = (of, all) => all > 0 ? of / all : null;
      let [weight, latencies] = [0, 0];
      for (let other = first; other <= index; other += 1) {
        if (told.p99_us[other] == null) continue;
        weight += told.requests[other] || 1;
        latencies += told.p99_us[other] * (told.requests[other] || 1);
      }
      return point(at, spans[index], {
        rate: sum('requests') / seconds, hits: part(sum('hits'), sum('hits') + sum('misses')), seen: part(sum('whole_gets'), sum('gets')),
        p99: weight ? latencies / weight : null, instead: sum('degraded') / seconds, answeredFor: told.degraded[index],
        errors: told.forward_errors[index] + told.server_errors[index], states: states.map(letters => letters[index]),
      });
    });
    // What was seen since is newer.
    const last = ends.at(-1) ?? 0;
    this.past = [...learnt, ...this.past.filter(point => point.at > last)];
  }

  show(pool, recent, found, few) {
    Object.assign(this, { pool, recent, few });
    const how = level(found);
    mark(this.root, 'data-level', how);
    mark(this.root, 'data-pool', pool.name);
    say(this.sign, SIGNS[how]);
    const up = pool.servers.filter(server => server.state === 'up').length;
    say(this.count, `${up} of ${pool.servers.length} in service`);
    this.count.className = 'count ' + (up < pool.servers.length ? 'bad' : 'soft');
    [`${rate(pool.requests_per_s)} requests/s`, `${percent(pool.hit_rate)} hits`, `p99 ${latency(pool.latency.p99_us)}`]
      .forEach((text, index) => say(this.brief[index], text));
    if (how === 'bad' && this.how !== 'bad') this.touched = false;
    if (how !== 'bad' && this.how === 'bad') this.wellSince = Date.now();
    this.how = how;
    if (!this.touched) {
      const open = few || how === 'bad' || Date.now() - this.wellSince < CALM;
      if (this.root.open !== open) this.root.open = open;
    }
    this.redraw();
  }

  redraw() {
    if (!this.pool) return;
    if (this.root.open) this.showInside();
    else this.small.show(this.past, point => point.rate);
  }

  // How much there was of something in the time that is remembered, and when last.
  lately(count) {
    const sum = this.past.reduce((sum, point) => sum + count(point), 0);
    const last = this.past.findLast(point => count(point) > 0);
    const age = (this.past.at(-1).at - (this.past[0].at - this.past[0].span)) / 1000;
    if (!last) return `none in the last ${ago(age)}`;
    const since = this.past.at(-1).at - last.at;
    return `${about(sum)} in the last ${ago(age)}, the last ${since < 2000 ? 'at this moment' : duration(since) + ' ago'}`;
  }

  showInside() {
    const { pool, recent, tiles } = this;
    tiles.rate.show(rate(pool.requests_per_s), `${about(pool.requests)} since the start`);
    const keys = pool.hits + pool.misses;
    // What is answered in a server's place counts neither as a hit nor as a miss.
    tiles.hits.show(percent(pool.hit_rate), pool.degraded_per_s > 0 ? `of servers’ answers; clients see ${percent(pool.client_hit_rate)}` : keys ? `${about(pool.hits)} hits, ${about(pool.misses)} misses` : pool.requests ? 'no gets so far' : 'nothing asked for');
    tiles.p99.show(latency(pool.latency.p99_us), `p50 ${latency(pool.latency.p50_us)}, p99.9 ${latency(pool.latency.p999_us)}`);
    tiles.rate.drawing.show(this.past, point => point.rate);
    tiles.hits.drawing.show(this.past, point => point.hits, { top: 1, other: point => point.seen });
    tiles.p99.drawing.show(this.past, point => point.p99 == null ? null : Math.round(point.p99));
    tiles.instead.drawing.show(this.past, point => point.instead);
    tiles.clients.show(count(pool.clients), '');
    const causes = recent.causes.map(([cause, n]) => `${CAUSES[cause] ?? cause.replaceAll('_', ' ')} ${rate(n)}/s`).join(', ');
    tiles.instead.show(rate(pool.degraded_per_s) + '/s', causes || `${this.lately(point => point.answeredFor)}; on_failure: ${pool.on_failure}`,
      pool.degraded_per_s > 0 ? 'warn' : 'quiet');
    const { forwardErrors, serverErrors } = recent;
    const errors = pool.forward_errors + pool.server_errors;
    const lately = this.lately(point => point.errors);
    tiles.errors.show(rate(forwardErrors + serverErrors) + '/s', errors
      ? `${lately}; since the start ${about(pool.forward_errors)} for a failed server, ${about(pool.server_errors)} servers’ own` : 'none since the start',
      forwardErrors > 0 ? 'bad' : serverErrors > 0 ? 'warn' : 'quiet');
    if (tiles.calm && pool.stampede) {
      const { leases, waits, waited_ms, unleased, stale } = pool.stampede;
      const all = leases + waits + stale;
      tiles.calm.show(percent(all ? (waits + stale) / all : null), all
        ? `since the start ${about(leases)} computed, ${about(waits)} waited${waits ? `, ${latency(1000 * waited_ms / waits)} each` : ''}, ${stale ? `${about(stale)} given the value before, ` : ''}${about(unleased)} told a miss without a lease`
        : 'nothing was missed so far');
    }
    this.rows.forEach((row, index) => row.show(pool.servers[index], pool));
    arrange(this.body, [...this.rows].sort((a, b) => a.rank - b.rank).map(row => row.root));
    // In a wide file, a pool in trouble shows the trouble first, and the rest when asked.
    const well = this.rows.filter(row => row.rank === 2);
    const fold = !this.few && this.how !== 'good' && well.length > 4;
    this.rows.forEach((row, index) => {
      row.root.hidden = fold && !this.unfolded && row.rank === 2;
      if (!row.root.hidden) row.strip.show(this.past, index, plain(pool.servers[index].name));
    });
    this.more.hidden = !fold;
    mark(this.more, 'aria-expanded', String(this.unfolded));
    say(this.more, `${this.unfolded ? 'hide' : 'show'} the ${some(well.length, 'server')} that ${well.length === 1 ? 'is' : 'are'} in service`);
    const hot = pool.hot_keys ?? [];
    this.hot.hidden = !hot.length;
    list(this.keys, hot, () => node('tr', {}, node('td', { class: 'c-name' }, node('bdi')), node('td', { class: 'c-on' }, node('bdi')),
      node('td', { class: 'n', 'data-label': 'requests/s' }), node('td', { class: 'n', 'data-label': 'bytes/s' })), (row, key) => {
      say(row.children[0].firstChild, plain(key.key));
      say(row.children[1].firstChild, plain(key.server ?? ''));
      say(row.children[2], rate(key.per_s));
      say(row.children[3], key.bytes_per_s == null ? NONE : bytes(key.bytes_per_s));
    });
  }
}
