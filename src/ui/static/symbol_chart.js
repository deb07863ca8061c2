/**
 * The chart of the chosen symbol over the last minutes: our bid and ask as a band, fills as marks, and the position below.
 *
 * The history is read from the market log once, and then continued from the rows and fills of the frames. If the symbol
 * changes faster than rows arrive, the chart has only the newest state. It is drawn when data has arrived, or time has
 * advanced by a pixel. Spans, fills and positions are in order of time, for binary search.
 */

import { Chart, extent, trace } from "./chart.js";
import { byId, put } from "./dom.js";
import { axisTime, signed, whole } from "./format.js";

const LOOKBACK = 900_000; // milliseconds, as on the server
const MIN_WINDOW = 30_000; // the shortest time shown, in milliseconds
const GROWTH = 1.1; // factor by which the time shown grows while the history is shorter than the chosen window
const MAX_KEPT = 20_000; // spans, and fills
const MARKS_APART = 2; // minimum pixels between two marks of one side
const NEAR = 7; // pixels from a fill within which it is selected
const TIMEOUT = 8000;

export class SymbolChart {
  /** @param {(quoteId: string) => void} onQuote called when a quote is chosen */
  constructor(onQuote) {
    this.figure = byId("chart-symbol");
    this.name = byId("chart-symbol-name");
    this.note = byId("chart-symbol-note");
    this.symbol = "";
    this.seconds = LOOKBACK / 1000;
    this.now = 0;
    this.request = null;
    this.#clear();
    this.chart = new Chart(this.figure, [this.#pricePanel(), this.#positionPanel()], {
      read: (time) => this.#read(time),
      describe: () => this.#describe(),
      onPick: (time) => {
        const quote = this.#fillAt(time)?.quoteId ?? this.#spanAt(time)?.quoteId;
        if (quote) onQuote(quote);
      },
    });
  }

  #clear() {
    this.known = false;
    this.since = 0;
    this.spans = []; // { begins, ends, bid, ask, quoteId }; the last may end in the future
    this.fills = []; // { at, side, quantity, price, number, quoteId }
    this.number = 0; // of the last fill
    this.positions = []; // times and net quantities
    this.version = -1; // of the last position; -1 before the first row after the history
  }

  /** True unless the history was read and no row has followed yet. */
  get followed() {
    return !this.known || this.version >= 0;
  }

  /** Show a symbol; nothing if `symbol` is empty. */
  choose(symbol) {
    if (symbol === this.symbol) return;
    this.symbol = symbol;
    this.figure.hidden = !symbol;
    put(this.name, symbol);
    this.restart();
  }

  /** Read the history again, as after a gap. */
  async restart() {
    this.request?.abort();
    this.#clear();
    this.chart.touch();
    const { symbol } = this;
    if (!symbol) return;
    const request = (this.request = new AbortController());
    const timeout = setTimeout(() => request.abort(), TIMEOUT);
    put(this.note, "Reading the log …");
    try {
      const response = await fetch(`/history/${encodeURIComponent(symbol)}`, { signal: request.signal });
      const body = await response.json();
      if (request !== this.request) return;
      if (response.ok) this.#begin(body);
      else put(this.note, `From now on only: ${body.detail || body.title}`);
    } catch {
      if (request === this.request) put(this.note, "From now on only: the log was not read");
    } finally {
      clearTimeout(timeout);
    }
    if (request === this.request) this.known = true;
    this.chart.touch();
  }

  #begin({ since, spans, fills }) {
    put(this.note, "");
    this.since = since;
    this.spans = spans.map(([begins, ends, bid, ask, quoteId]) => ({ begins, ends, bid: number(bid), ask: number(ask), quoteId }));
    for (const [at, side, quantity, price, count, quoteId] of fills) this.#add({ at, side, quantity, price: Number(price), number: count, quoteId });
  }

  /** Insert a fill in order of time: a reported fill may be older than those recorded before it. */
  #add(fill) {
    this.number = fill.number;
    let place = this.fills.length;
    while (place > 0 && this.fills[place - 1].at > fill.at) place -= 1;
    this.fills.splice(place, 0, fill);
    this.chart.touch(fill.at);
  }

  /** Set the window to this many seconds. */
  window(seconds) {
    this.seconds = Math.min(seconds, LOOKBACK / 1000);
    this.chart.touch();
  }

  /** Continue with the symbol's row and its newest fills, at a server time. */
  follow(row, fills, now) {
    if (!this.known || !row || row.symbol !== this.symbol) return;
    const { data } = row;
    if (!this.since) this.since = now;
    if (this.version < 0) this.#positionsBefore(data);
    if (data.position_version > this.version) {
      this.version = data.position_version;
      const at = Math.max(data.updatedAt ?? now, this.positions.at(-1)[0]);
      this.positions.push([at, data.net_quantity]);
      this.chart.touch(at);
    }
    for (const fill of fills) {
      if (fill.number > this.number) this.#add({ at: fill.createdAt, side: fill.side, quantity: fill.quantity, price: Number(fill.price), number: fill.number, quoteId: fill.quote_id });
    }
    if (data.fills_recorded >= this.number) this.#followQuote(data, now);
    this.#forget(now);
  }

  /** Compute the earlier positions from the present one and its fills. */
  #positionsBefore(data) {
    this.version = data.position_version;
    const applied = this.fills.filter((fill) => fill.number <= data.position_version);
    let net = data.net_quantity;
    const found = [];
    for (const fill of applied.toReversed()) {
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
    const old = now - LOOKBACK;
    const drop = (list, timeOf) => {
      let count = Math.max(0, list.length - MAX_KEPT);
      while (count < list.length - 1 && timeOf(list[count + 1]) < old) count += 1;
      if (count > 200) list.splice(0, count); // removing a few at a time would copy the list too often
    };
    drop(this.spans, spanTime);
    drop(this.fills, fillTime);
    drop(this.positions, positionTime);
  }

  /** Advance the window to a server time. */
  tick(time) {
    const now = (this.now = Math.floor(time)); // whole, so that the window keeps its length from frame to frame
    if (!this.symbol || !this.chart.visible) return;
    const first = Math.min(this.spans[0]?.begins ?? now, this.fills[0]?.at ?? now);
    const grown = Math.ceil(Math.log(Math.max(1, (now - first) / MIN_WINDOW)) / Math.log(GROWTH));
    const shown = Math.min(this.seconds * 1000, Math.round(MIN_WINDOW * GROWTH ** grown));
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

  /** Yield the positions in a time. Each holds until the next. */
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

  /** Draw rectangles, and only one for all spans that fall on the same pixel. */
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

  /** Draw a triangle for each fill: up if we bought, because the order sold to our bid; else down. */
  #drawFills({ context, x, y, colours, from, to }) {
    const last = { sell: -1, buy: -1 };
    const paths = { sell: new Path2D(), buy: new Path2D() };
    for (const { side, quantity, at, price: paid } of this.#fillsIn(from, to)) {
      const [left, top] = [x(at), y(paid)];
      const place = Math.floor(left / MARKS_APART);
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

  #describe() {
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

/** The index of the first entry at a time or later; the list is in order of time. */
function firstFrom(list, when, timeOf) {
  return firstIndex(list, (one) => timeOf(one) >= when);
}

/** The index of the first entry after a time. */
function firstAfter(list, when, timeOf) {
  return firstIndex(list, (one) => timeOf(one) > when);
}

/** The index of the first entry that fulfils a condition, which all later entries fulfil too. */
function firstIndex(list, is) {
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

/** Yield only the last of the points that fall on the same pixel. */
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

/** A price beside the axis, with enough digits to distinguish two marks. */
function price(value, step) {
  return value.toFixed(Math.max(0, Math.min(8, Math.ceil(-Math.log10(step) - 1e-9))));
}
