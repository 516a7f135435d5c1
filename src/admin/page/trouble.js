// ---- judging

// What is wrong in a pool, the worst first: { level, who, rest, spoken }.
function troubles(pool, past, slow, severalPools) {
  const found = [];
  const within = severalPools ? ` in ${plain(pool.name)}` : '';
  const out = pool.servers.filter(server => server.state !== 'up');
  const failed = out.filter(server => !server.held);
  const instead = INSTEAD[pool.on_failure] ?? 'answered by the proxy';
  if (out.length === pool.servers.length) {
    const least = Math.min(...out.map(server => server.out_for_ms ?? 0));
    const reasons = [...new Set(out.map(server => server.reason))].map(plain).join(', ');
    const what = out.length === 1 ? 'its only server is out of service' : `all ${out.length} servers are out of service`;
    found.push({ level: 'bad', who: pool.name, spoken: what,
      rest: `: ${what}, for ${duration(least)}: ${reasons} – every request is ${instead}` });
  } else {
    for (const server of failed) {
      const keys = server.share > 0 ? `requests for its ${percent(server.share, 0)} of the keys are ${instead}` : 'its keys are on the other servers';
      found.push({ level: 'bad', who: server.name, spoken: `is out of service${within}: ${server.reason}`,
        rest: `${within} has been out of service for ${duration(server.out_for_ms ?? 0)}: ${plain(server.reason ?? 'failed')} – ${keys}` });
    }
  }
  const told = past.forwardErrors;
  if (told > 0) {
    found.push({ level: 'bad', who: pool.name, spoken: 'errors are sent to clients',
      rest: `: ${rate(told)} errors/s are sent to clients because a server failed` });
  }
  for (const server of out.length === pool.servers.length ? [] : out.filter(server => server.held)) {
    found.push({ level: 'warn', who: server.name, spoken: `is kept out by the operator${within}`,
      rest: `${within} has been kept out by the operator for ${duration(server.out_for_ms ?? 0)}` });
  }
  for (const server of pool.servers) {
    if (server.state === 'up' && server.failures_in_a_row > 0) {
      found.push({ level: 'warn', who: server.name, spoken: `is failing${within}`,
        rest: `${within} is in service, but failed ${server.failures_in_a_row === 1 ? 'once' : server.failures_in_a_row + ' times'} since its last answer${server.reason ? ': ' + plain(server.reason) : ''}` });
    }
  }
  for (const server of slow) {
    found.push({ level: 'warn', who: server.name, spoken: `is slow${within}`,
      rest: `${within} is slower than the others: p99 ${latency(server.latency.p99_us)}` });
  }
  if (!found.length && pool.degraded_per_s > 0) {
    const causes = past.causes.map(([cause]) => CAUSES[cause] ?? cause.replaceAll('_', ' ')).join(', ');
    found.push({ level: 'warn', who: pool.name, spoken: 'requests are answered for failed servers',
      rest: `: ${rate(pool.degraded_per_s)} requests/s are ${instead}${causes ? ': ' + causes : ''}` });
  }
  return found;
}

// How a server that is back was out of service, if that was in the time that is remembered: { back, lasted, reason }.
function lastOutage(pool, server) {
  const own = events.filter(event => event.pool === pool.name && event.server === server.name);
  const end = own.findIndex(event => event.text.startsWith('back in service after '));
  if (end < 0 || (now() - own[end].at) > REMEMBERED * 1000) return null;
  const start = own.slice(end).find(event => /^out of service after|by the operator/.test(event.text));
  const reason = start?.text.startsWith('out of') ? start.text.slice(start.text.indexOf(': ') + 2) : start ? 'by the operator' : '';
  return { back: own[end].at, lasted: parseFloat(own[end].text.slice('back in service after '.length)) * 1000, reason };
}

function level(found) { return found.some(t => t.level === 'bad') ? 'bad' : found.length ? 'warn' : 'good'; }

// A p99 that stands out from the pool's other servers: what a server looks like that is sick and not yet out.
function isSlow(server, pool) {
  const others = pool.servers.filter(other => other !== server && other.state === 'up' && other.latency.p99_us != null);
  if (others.length < 2 || server.state !== 'up' || !(server.latency.p99_us > 10000)) return false;
  const sorted = others.map(other => other.latency.p99_us).sort((a, b) => a - b);
  return server.latency.p99_us > 4 * sorted[sorted.length >> 1];
}
