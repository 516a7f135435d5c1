'use strict';
const PERIOD = 1000;      // between two questions, ms
const PATIENCE = 2500;    // silence after which the figures are called old, ms
const GIVE_UP = 5000;     // for one answer, ms
const SPANS = [300, 1800]; // of the drawings, s, to choose from; they begin with the first minute
const FIRST_SPAN = 60;
const REMEMBERED = 1800;  // of the past, s: as much as the proxy remembers
const LEARN = 300000;     // after so long the proxy is asked for the past again: in longer steps it is less to draw, ms
const CALM = 60000;       // a pool folds again after being well for so long, ms
const FEW = 24;           // servers in all: up to so many, every pool is open, with every server
const SLOW_AFTER = 5;     // answers in which a server is slow before that is called trouble,
const SLOW_KEPT = 8;      // and at most so many until it is forgotten
const HOP = 15000;        // how long a server stays among those in trouble after it, ms
const TOLD = 8;           // problems in the verdict
const EVENTS = 1000;      // that are remembered,
const EVENTS_SHOWN = 30;  // and drawn

const CAUSES = {
  ejected: 'server out of service', refused: 'connection refused', timeout: 'timed out', closed: 'connection closed',
  reset: 'connection reset', protocol: 'protocol broken', unresolved: 'name does not resolve', no_socket: 'no unix socket',
  server_full: 'takes no more connections', stalled: 'server silent', dedicated_connections: 'dedicated_connections reached', no_resources: 'out of descriptors here',
};
const INSTEAD = { miss: 'answered as misses', error: 'answered with errors', absorb: 'answered as if empty, writes as stored' };
const SIGNS = { good: '✓', past: '↺', warn: '!', bad: '✕', none: '…' };
const RANKS = { bad: 0, warn: 1, good: 2 };

// ---- words and figures

const whole = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat('en-US', { notation: 'compact', maximumFractionDigits: 1 });
const NONE = '–';

function count(n) { return whole.format(n); }

function about(n) { return n < 10000 ? count(n) : short.format(n); }

function rate(n) {
  if (n >= 99950) return (n / 1000).toFixed(0) + 'k';
  return n === 0 ? '0' : n < 10 ? n.toFixed(1) : count(n);
}

function percent(part, digits = 1) { return part == null ? NONE : (part * 100).toFixed(digits) + ' %'; }

function latency(us) {
  if (us == null) return NONE;
  if (us < 1000) return us + ' µs';
  const [n, unit] = us < 1e6 ? [us / 1000, ' ms'] : [us / 1e6, ' s'];
  return n.toFixed(n < 10 ? 2 : n < 100 ? 1 : 0) + unit;
}

function bytes(n) {
  for (const unit of ['B', 'KB', 'MB']) {
    if (n < 1024) return (n < 10 && unit !== 'B' ? n.toFixed(1) : n.toFixed(0)) + ' ' + unit;
    n /= 1024;
  }
  return n.toFixed(1) + ' GB';
}

function duration(ms) {
  const s = Math.floor(ms / 1000);
  if (s < 60) return s + ' s';
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}

// Of a span that is told in whole minutes.
function ago(s) { return s < 120 ? `${Math.round(s)} s` : `${Math.round(s / 60)} min`; }

function clock(ms) { return new Date(ms).toLocaleTimeString('en-GB'); }

function some(n, one, many = one + 's') { return `${count(n)} ${n === 1 ? one : many}`; }

// What would not be seen, or would turn the text around it, is written out.
function plain(text) {
  return String(text).replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g,
    sign => '\\u' + sign.charCodeAt(0).toString(16).padStart(4, '0'));
}
