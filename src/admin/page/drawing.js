// ---- nodes

function node(tag, attributes = {}, ...inside) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...inside);
  return made;
}

function drawn(tag, attributes = {}, ...inside) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...inside);
  return made;
}

function say(at, text) { if (at.textContent !== text) at.textContent = text; }

function mark(at, name, value) { if (at.getAttribute(name) !== value) at.setAttribute(name, value); }

// As many children as there are things; `make` makes one more, `fill` says what is in it.
function list(parent, things, make, fill) {
  while (parent.children.length > things.length) parent.lastChild.remove();
  things.forEach((thing, index) => {
    if (!parent.children[index]) parent.append(make());
    fill(parent.children[index], thing);
  });
}

// Brings children into an order without touching those that stand right, and keeps the focus.
function arrange(parent, wanted) {
  const focus = document.activeElement;
  wanted.forEach((child, index) => {
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null);
  });
  if (focus !== document.activeElement && parent.contains(focus)) focus.focus({ preventScroll: true });
}

// ---- drawings: the newest moment is at the right end, the left end is `shownSpan` before it

let chosenSpan = SPANS.at(-1);   // seconds

// Less where there is not so much yet.
function shownSpan(past) {
  const age = (past.at(-1).at - (past[0].at - past[0].span)) / 1000;
  return Math.min(chosenSpan, Math.max(FIRST_SPAN, age));
}

// A point of the past tells of the `span` ms before `at`. Of a pause of the page or of the proxy nothing is known.
function isGap(point, before) { return point.span > 3.5 * Math.max(before?.span ?? point.span, 1000); }

class Drawing {
  constructor(name, format) {
    Object.assign(this, { name, format });
    this.out = drawn('path', { class: 'out' });
    this.second = drawn('path', { class: 'second' });
    this.line = drawn('path', { class: 'line' });
    const floor = drawn('path', { class: 'floor', d: 'M0 39.5H100' });
    this.svg = drawn('svg', { viewBox: '0 0 100 40', preserveAspectRatio: 'none', role: 'img' }, this.out, floor, this.second, this.line);
    this.from = node('span');
    this.axis = node('div', { class: 'axis', 'aria-hidden': 'true' }, this.from, node('span', {}, 'now'));
    this.range = node('div', { class: 'range', 'aria-hidden': 'true' });
  }

  // `past` has the oldest first, each with a time, `value` or null, and whether a server was out; `other` is drawn thin.
  show(past, value, { top = 0, other } = {}) {
    const now = past.at(-1).at;
    const span = shownSpan(past);
    const x = at => Math.max(0, 100 - (now - at) / 10 / span).toFixed(2);
    const points = past.filter(point => point.at > now - span * 1000);
    const values = points.map(value).filter(value => value != null);
    const [least, most] = [Math.min(...values), Math.max(...values)];
    const others = other ? points.map(other).filter(value => value != null) : [];
    const scale = 36 / (Math.max(top, most, ...others) || 1);
    const line = of => points.map((point, index) => {
      const [height, before] = [of(point), points[index - 1]];
      if (height == null) return '';
      const joined = before && of(before) != null && !isGap(point, before);
      return `${joined ? 'L' : 'M'}${x(point.at)} ${(38 - scale * height).toFixed(1)}${joined ? '' : 'h0'}`;
    }).join('');
    mark(this.line, 'd', line(value));
    mark(this.second, 'd', other ? line(other) : '');
    mark(this.out, 'd', points.map((point, index) => point.out && !isGap(point, points[index - 1])
      ? `M${x(point.at - point.span)} 0H${x(point.at)}V40H${x(point.at - point.span)}Z` : '').join(''));
    const [low, high] = values.length ? [this.format(least), this.format(most)] : [];
    const range = !values.length ? 'nothing' : low === high ? `${low} all the time` : `lowest ${low}, highest ${high}`;
    mark(this.svg, 'aria-label', `${this.name}, last ${ago(span)}: ${range}`);
    say(this.from, `${ago(span)} ago`);
    say(this.range, range);
  }
}

// How a server was, from left to right: the worse, the higher.
const HEIGHTS = { '.': 4, f: 8, h: 12, o: 12 };
const STATE_CLASSES = { '.': 'well', f: 'failing', h: 'kept', o: 'out' };

class Strip {
  constructor() {
    this.paths = Object.entries(STATE_CLASSES).map(([, kind]) => drawn('path', { class: 'state-' + kind }));
    this.svg = drawn('svg', { class: 'strip', viewBox: '0 0 100 12', preserveAspectRatio: 'none', role: 'img' }, ...this.paths);
  }

  // `past` as above; `at` is the server's place in the `states` of its points.
  show(past, at, name) {
    const now = past.at(-1).at;
    const span = shownSpan(past);
    const x = time => Math.max(0, 100 - (now - time) / 10 / span).toFixed(2);
    const shapes = { '.': '', f: '', h: '', o: '' };
    let run = null;
    let out = 0;
    const end = () => {
      if (run) shapes[run.state] += `M${x(run.from)} ${12 - HEIGHTS[run.state]}H${x(run.to)}V12H${x(run.from)}Z`;
    };
    past.forEach((point, index) => {
      const state = point.states[at];
      if (point.at <= now - span * 1000 || !(state in shapes) || isGap(point, past[index - 1])) return;
      if (state === 'o') out += point.span;
      if (run && run.state === state && point.at - point.span - run.to < 50) run.to = point.at;
      else {
        end();
        run = { state, from: point.at - point.span, to: point.at };
      }
    });
    end();
    Object.keys(shapes).forEach((state, index) => mark(this.paths[index], 'd', shapes[state]));
    mark(this.svg, 'aria-label', `${name}, last ${ago(span)}: ${out ? `out of service for ${duration(out)}` : 'not out of service'}`);
  }
}
