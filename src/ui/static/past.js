/**
 * The chosen symbol over the last minutes: our bid and ask as a band, fills as marks on it, and the position below.
 *
 * The past is read from the market log once; from then on the rows go on with it. Of what changes faster than rows come,
 * the chart has the newest. It is drawn when something has come, or time has moved on by a pixel. Spans, fills and positions
 * are in the order of time, so that what falls in a time is found without looking at the others.
 */

import { Chart, extent, trace } from "./chart.js";
import { byId, put } from "./dom.js";
import { axisTime, signed, whole } from "./format.js";

const BACK = 900_000; // milliseconds, as on the server
const LEAST = 30_000;
const GROWTH = 1.1; // from one time shown to the next longer one, while there is less than is to be shown
const MOST = 20_000; // spans and fills that are kept
const APART = 2; // pixels between two marks of one side, at least
const NEAR = 7; // pixels from a fill within which it is meant
const PATIENCE = 8000;

export class Past {
  /** @param {(quoteId: string) => void} onQuote a quote was chosen */
  constructor(onQuote) {
    this.figure = byId("chart-symbol");
    this.name = byId("chart-symbol-name");
    this.note = byId("chart-symbol-note");
    this.symbol = "";
    this.seconds = BACK / 1000;
    this.now = 0;
    this.asked = null;
    this.#clear();
    this.chart = new Chart(this.figure, [this.#pricePanel(), this.#positionPanel()], {
      read: (time) => this.#read(time),
      told: () => this.#told(),
      onPick: (time) => {
        const quote = this.#fillAt(time)?.quoteId ?? this.#spanAt(time)?.quoteId;
        if (quote) onQuote(quote);
      },
    });
  }

  #clear() {
    this.known = false;
    this.since = 0;
    this.spans = []; // { begins, ends, bid, ask, quoteId }; the last may end in time to come
    this.fills = []; // { at, side, quantity, price, number, quoteId }
    this.number = 0; // of the last fill
    this.positions = []; // times and net quantities
    this.version = -1; // of the last position; -1 before the row was looked at
  }

  /** Whether the row was looked at since the past was read. */
  get followed() {
    return !this.known || this.version >= 0;
  }

  /** Show a symbol; none if it is empty. */
  choose(symbol) {
    if (symbol === this.symbol) return;
    this.symbol = symbol;
    this.figure.hidden = !symbol;
    put(this.name, symbol);
    this.restart();
  }

  /** Read the past anew, as after a gap. */
  async restart() {
    this.asked?.abort();
    this.#clear();
    this.chart.touch();
    const { symbol } = this;
    if (!symbol) return;
    const asked = (this.asked = new AbortController());
    const patience = setTimeout(() => asked.abort(), PATIENCE);
    put(this.note, "Reading the log …");
    try {
      const answer = await fetch(`/history/${encodeURIComponent(symbol)}`, { signal: asked.signal });
      const body = await answer.json();
      if (asked !== this.asked) return;
      if (answer.ok) this.#begin(body);
      else put(this.note, `From now on only: ${body.detail || body.title}`);
    } catch {
      if (asked === this.asked) put(this.note, "From now on only: the log was not read");
    } finally {
      clearTimeout(patience);
    }
    if (asked === this.asked) this.known = true;
    this.chart.touch();
  }

  #begin({ since, spans, fills }) {
    put(this.note, "");
    this.since = since;
    this.spans = spans.map(([begins, ends, bid, ask, quoteId]) => ({ begins, ends, bid: number(bid), ask: number(ask), quoteId }));
    for (const [at, side, quantity, price, count, quoteId] of fills) this.#add({ at, side, quantity, price: Number(price), number: count, quoteId });
  }

  /** Add a fill, in its place: one that was reported may be older than others that came before it. */
  #add(fill) {
    this.number = fill.number;
    let place = this.fills.length;
    while (place > 0 && this.fills[place - 1].at > fill.at) place -= 1;
    this.fills.splice(place, 0, fill);
    this.chart.touch(fill.at);
  }

  /** Show so many seconds, as far as they are known. */
  window(seconds) {
    this.seconds = Math.min(seconds, BACK / 1000);
    this.chart.touch();
  }

  /** Go on with the symbol's row and its newest fills, at a server time. */
  follow(line, fills, now) {
    if (!this.known || !line || line.symbol !== this.symbol) return;
    const { row } = line;
    if (!this.since) this.since = now;
    if (this.version < 0) this.#positionsBefore(row);
    if (row.position_version > this.version) {
      this.version = row.position_version;
      const at = Math.max(row.updatedAt ?? now, this.positions.at(-1)[0]);
      this.positions.push([at, row.net_quantity]);
      this.chart.touch(at);
    }
    for (const fill of fills) {
      if (fill.number > this.number) this.#add({ at: fill.createdAt, side: fill.side, quantity: fill.quantity, price: Number(fill.price), number: fill.number, quoteId: fill.quote_id });
    }
    if (row.fills_recorded >= this.number) this.#followQuote(row, now);
    this.#forget(now);
  }

  /** From the fills that led to a position, the positions before it. */
  #positionsBefore(row) {
    this.version = row.position_version;
    const led = this.fills.filter((fill) => fill.number <= row.position_version);
    let net = row.net_quantity;
    const found = [];
    for (const fill of led.toReversed()) {
      found.push([fill.at, net]);
      net -= fill.side === "sell" ? fill.quantity : -fill.quantity;
    }
    this.positions = [[Math.min(this.since, found.at(-1)?.[0] ?? this.since), net], ...found.reverse()];
    this.chart.touch();
  }

  #followQuote({ quote, quote_state: state }, now) {
    const last = this.spans.at(-1);
    const left = (side) => (state === "active" && quote[`${side}_remaining`] ? Number(quote[`${side}_price`]) : null);
    const [bid, ask] = [left("bid"), left("ask")];
    const shown = bid === null && ask === null ? null : { bid, ask, quoteId: quote.quote_id };
    if (shown ? last && same(last, shown) : !last || last.ends <= now) return;
    const begins = Math.max(last?.begins ?? 0, shown && shown.quoteId !== last?.quoteId ? quote.activatedAt : now);
    if (last) last.ends = Math.min(last.ends, begins);
    if (shown) this.spans.push({ begins, ends: quote.expiresAt, ...shown });
    this.chart.touch(begins);
  }

  #forget(now) {
    const old = now - BACK;
    const drop = (list, timeOf) => {
      let count = Math.max(0, list.length - MOST);
      while (count < list.length - 1 && timeOf(list[count + 1]) < old) count += 1;
      if (count > 200) list.splice(0, count); // a few at a time would copy the list again and again
    };
    drop(this.spans, spanTime);
    drop(this.fills, fillTime);
    drop(this.positions, positionTime);
  }

  /** Let time run. */
  tick(time) {
    const now = (this.now = Math.floor(time)); // whole, so that what is shown is as long from one picture to the next
    if (!this.symbol || !this.chart.visible) return;
    const first = Math.min(this.spans[0]?.begins ?? now, this.fills[0]?.at ?? now);
    const grown = Math.ceil(Math.log(Math.max(1, (now - first) / LEAST)) / Math.log(GROWTH));
    const shown = Math.min(this.seconds * 1000, Math.round(LEAST * GROWTH ** grown));
    const pixel = shown / this.chart.size[0];
    if (this.chart.dirty || Math.abs(now - this.chart.to) >= pixel) this.chart.show(now - shown, now);
  }

  /** Draw what has changed. */
  paint() {
    if (this.symbol) this.chart.paint();
  }

  *#spansIn(from, to) {
    for (let index = Math.max(0, firstAfter(this.spans, from, spanTime) - 1); index < this.spans.length; index += 1) {
      const span = this.spans[index];
      if (span.begins > to) return;
      const ends = Math.min(span.ends, this.now, to);
      if (ends >= from) yield [span, Math.max(from, span.begins), ends];
    }
  }

  *#fillsIn(from, to) {
    for (let index = firstFrom(this.fills, from, fillTime); index < this.fills.length && this.fills[index].at <= to; index += 1) yield this.fills[index];
  }

  /** A position holds from its time until the next. */
  *#positionsIn(from, to) {
    let net;
    for (let index = Math.max(0, firstAfter(this.positions, from, positionTime) - 1); index < this.positions.length; index += 1) {
      const [begins, held] = this.positions[index];
      if (begins > to) break;
      net = held;
      yield [Math.max(from, begins), net];
    }
    if (net !== undefined) yield [to, net];
  }

  #pricePanel() {
    return {
      share: 3,
      text: price,
      range: (from, to) => extent(this.#pricesIn(from, to)),
      draw: (pen) => {
        this.#drawBand(pen);
        this.#drawFills(pen);
      },
    };
  }

  *#pricesIn(from, to) {
    for (const [{ bid, ask }] of this.#spansIn(from, to)) {
      yield bid;
      yield ask;
    }
    for (const fill of this.#fillsIn(from, to)) yield fill.price;
  }

  /** In rectangles, and what falls on one pixel in one: of thousands of spans no more are drawn than there is room for. */
  #drawBand(pen) {
    const { context, y, colours } = pen;
    const [between, bids, asks] = [new Path2D(), new Path2D(), new Path2D()];
    for (const { left, wide, bid, ask } of this.#columns(pen)) {
      if (bid && ask && bid[1] < ask[0]) between.rect(left, y(ask[0]), wide, y(bid[1]) - y(ask[0]));
      for (const [range, path] of [[bid, bids], [ask, asks]]) {
        if (range) path.rect(left, y(range[1]) - 0.75, wide, y(range[0]) - y(range[1]) + 1.5);
      }
    }
    context.globalAlpha = 0.16;
    context.fillStyle = colours.text;
    context.fill(between);
    context.globalAlpha = 1;
    for (const [path, colour] of [[bids, colours.bid], [asks, colours.ask]]) {
      context.fillStyle = colour;
      context.fill(path);
    }
  }

  *#columns({ x, from, to }) {
    let group = null;
    for (const [{ bid, ask }, begins, ends] of this.#spansIn(from, to)) {
      const [left, right] = [x(begins), x(ends)];
      if (group && Math.floor(left) === Math.floor(group.left) && right - group.left <= 1.5) {
        group.wide = right - group.left;
        group.bid = widened(group.bid, bid);
        group.ask = widened(group.ask, ask);
        continue;
      }
      if (group) yield group;
      group = { left, wide: Math.max(0.75, right - left), bid: widened(null, bid), ask: widened(null, ask) };
    }
    if (group) yield group;
  }

  /** An order that sells fills our bid, so we bought: a triangle that points up; else down. */
  #drawFills({ context, x, y, colours, from, to }) {
    const last = { sell: -1, buy: -1 };
    const paths = { sell: new Path2D(), buy: new Path2D() };
    for (const { side, quantity, at, price: paid } of this.#fillsIn(from, to)) {
      const [left, top] = [x(at), y(paid)];
      const place = Math.floor(left / APART);
      if (place === last[side]) continue;
      last[side] = place;
      const size = 3 + Math.min(3, Math.sqrt(quantity) / 2);
      const up = side === "sell" ? size : -size;
      paths[side].moveTo(left, top - up);
      paths[side].lineTo(left + size, top + up);
      paths[side].lineTo(left - size, top + up);
    }
    for (const [side, colour] of [["sell", colours.bought], ["buy", colours.sold]]) {
      context.fillStyle = colour;
      context.fill(paths[side]);
    }
  }

  #positionPanel() {
    return {
      share: 1.2,
      text: (value) => (Number.isInteger(value) ? signed(value) : ""),
      range: (from, to) => {
        const found = extent(netsOf(this.#positionsIn(from, to)));
        return found && [Math.min(0, found[0]), Math.max(0, found[1])];
      },
      draw: (pen) => {
        const { position, bid, ask } = pen.colours;
        trace(pen, thinned(this.#positionsIn(pen.from, pen.to), pen.x), { colour: position, steps: true, width: 1.25, area: { above: bid, below: ask } });
      },
    };
  }

  #spanAt(when) {
    const span = this.spans[firstAfter(this.spans, when, spanTime) - 1];
    return span && when < Math.min(span.ends, this.now) ? span : undefined;
  }

  #fillAt(time) {
    const near = (NEAR * (this.chart.to - this.chart.from)) / (this.chart.size[0] || 1);
    let found = null;
    for (const fill of this.#fillsIn(time - near, time + near)) {
      if (!found || Math.abs(fill.at - time) < Math.abs(found.at - time)) found = fill;
    }
    return found;
  }

  #read(when) {
    const [span, fill] = [this.#spanAt(when), this.#fillAt(when)];
    const net = this.positions[firstAfter(this.positions, when, positionTime) - 1]?.[1];
    const shown = span ? `${span.bid ?? "–"} / ${span.ask ?? "–"}` : "no quote";
    const parts = [`${axisTime(when, 1000)}: ${shown}`];
    if (net !== undefined) parts.push(`${signed(net)} lots`);
    if (fill) parts.push(`${fill.side} ${whole(fill.quantity)} @ ${fill.price}`);
    return parts.join(" · ");
  }

  #told() {
    const { from, to } = this.chart;
    const fills = firstAfter(this.fills, to, fillTime) - firstFrom(this.fills, from, fillTime);
    const span = this.#spanAt(this.now - 1);
    const net = this.positions.at(-1)?.[1];
    return `${this.symbol} in the last ${Math.round((to - from) / 1000)} s: ${whole(fills)} fills, ${span ? `bid ${span.bid ?? "none"}, ask ${span.ask ?? "none"}` : "no quote"}, position ${net === undefined ? "not known" : signed(net)}`;
  }
}

const spanTime = (span) => span.begins;
const fillTime = (fill) => fill.at;
const positionTime = (position) => position[0];

/** The place of the first of some that are in the order of time that is at a time, or after it. */
function firstFrom(list, when, timeOf) {
  return place(list, (one) => timeOf(one) >= when);
}

/** The place of the first of them that is after a time. */
function firstAfter(list, when, timeOf) {
  return place(list, (one) => timeOf(one) > when);
}

/** The place of the first for which something is so that is so for all after it. */
function place(list, is) {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (is(list[middle])) high = middle;
    else low = middle + 1;
  }
  return low;
}

function* netsOf(positions) {
  for (const [, net] of positions) yield net;
}

function number(text) {
  return text === null ? null : Number(text);
}

function widened(range, value) {
  if (value === null) return range;
  return range ? [Math.min(range[0], value), Math.max(range[1], value)] : [value, value];
}

/** Of the points that fall on one pixel, the last. */
function* thinned(points, x) {
  let before = null;
  for (const point of points) {
    if (before && Math.floor(x(point[0])) !== Math.floor(x(before[0]))) yield before;
    before = point;
  }
  if (before) yield before;
}

function same(one, other) {
  return one.quoteId === other.quoteId && one.bid === other.bid && one.ask === other.ask;
}

/** A price beside the axis, with as many digits as tell two marks apart. */
function price(value, step) {
  return value.toFixed(Math.max(0, Math.min(8, Math.ceil(-Math.log10(step) - 1e-9))));
}
