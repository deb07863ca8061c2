/**
 * The table: its rows, their order, and which of them are painted when.
 *
 * Rows in sight are painted in the frame after they change; the others a few at a time, so that searching the page and
 * screen readers find the truth, yet five hundred busy symbols cost no more than a screenful.
 */

import { Line, STATES } from "./line.js";

const UNSEEN_PER_TICK = 60;

const ORDER = Object.keys(STATES);
const remaining = (line, side) => line.row.quote?.[`${side}_remaining`] ?? null;
const price = (line, side) => (line.row.quote?.[`${side}_quantity`] ? Number(line.row.quote[`${side}_price`]) : null);

/** What each column sorts by; null sorts last either way. */
const KEYS = {
  symbol: (line) => line.symbol,
  net: (line) => line.row.net_quantity,
  version: (line) => line.row.position_version,
  fill: (line) => line.row.last_fill?.quantity ?? null,
  age: (line, now) => (line.row.updatedAt === null ? null : now - line.row.updatedAt),
  profit: (line, now) => line.profitAt(now)?.numbers[0] ?? null,
  bidQuantity: (line) => remaining(line, "bid"),
  bid: (line) => price(line, "bid"),
  ask: (line) => price(line, "ask"),
  askQuantity: (line) => remaining(line, "ask"),
  ttl: (line, now) => (line.stateAt(now) === "active" ? line.row.quote.expiresAt - now : null),
  state: (line, now) => ORDER.indexOf(line.stateAt(now)),
};
/** Rows on the table at most, and the chosen one: of thousands of symbols the filter finds the others. */
const MOST = 600;
const ASCENDING_FIRST = new Set(["symbol", "age", "ttl"]);

export class Blotter {
  /** @param {{ symbol: string, sort: string, filter: string, set: (changes: object) => void }} view */
  constructor(table, region, view) {
    this.view = view;
    this.body = table.tBodies[0];
    this.headers = [...table.querySelectorAll("th[data-key]")];
    this.lines = new Map();
    this.sort = null;
    this.filter = "";
    this.chosen = null;
    this.shown = 0;
    this.scale = 10;
    this.unordered = false;
    this.sought = false;
    this.observer = new IntersectionObserver((entries) => this.#look(entries), { root: region, rootMargin: "200px" });
    for (const header of this.headers) {
      header.querySelector("button").addEventListener("click", () => this.#sortBy(header.dataset.key));
    }
    this.body.addEventListener("click", (event) => {
      const line = event.target.closest("tr")?.line;
      if (!line || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      view.set({ symbol: line.symbol });
    });
    this.follow();
  }

  /** Do as the view says: the order, the filter, the chosen symbol. */
  follow() {
    const descending = this.view.sort.startsWith("-");
    const key = this.view.sort.slice(descending ? 1 : 0);
    this.sort = Object.hasOwn(KEYS, key) ? { key, direction: descending ? -1 : 1 } : { key: "symbol", direction: 1 };
    for (const header of this.headers) {
      if (header.dataset.key !== this.sort.key) header.removeAttribute("aria-sort");
      else header.setAttribute("aria-sort", this.sort.direction > 0 ? "ascending" : "descending");
    }
    this.filter = this.view.filter.trim().toLowerCase();
    this.unordered = true;
    this.#choose();
  }

  /** Choose the row that is `step` rows after the chosen one, or the first. */
  step(step) {
    const rows = this.body.children;
    const from = this.chosen?.node.isConnected ? [...rows].indexOf(this.chosen.node) + step : 0;
    const { line } = rows[Math.max(0, Math.min(rows.length - 1, from))] ?? {};
    if (!line) return;
    this.view.set({ symbol: line.symbol });
    line.link.focus({ preventScroll: true });
    line.node.scrollIntoView({ block: "nearest" });
  }

  #choose() {
    const line = this.lines.get(this.view.symbol) ?? null;
    if (line === this.chosen) return;
    this.chosen?.choose(false);
    line?.choose(true);
    this.chosen = line;
  }

  /** Take rows; with `history` they are all there is, and every other goes. */
  take(rows, history, at) {
    if (history) {
      const named = new Set(rows.map((row) => row.symbol));
      for (const [symbol, line] of this.lines) {
        if (named.has(symbol)) continue;
        this.observer.unobserve(line.node);
        line.node.remove();
        this.lines.delete(symbol);
      }
    }
    for (const row of rows) {
      let line = this.lines.get(row.symbol);
      if (!line) {
        line = new Line(row.symbol);
        this.lines.set(row.symbol, line);
        this.unordered = true;
        if (row.symbol === this.view.symbol) this.sought = true;
      }
      line.take(row, history ? (history[row.symbol] ?? []) : null, at);
    }
  }

  /** Paint what changed and is in sight. */
  paint(now) {
    if (this.unordered) this.order(now);
    let largest = 0;
    for (const line of this.lines.values()) largest = Math.max(largest, Math.abs(line.row.net_quantity));
    const scale = roundUp(largest);
    const rescaled = scale !== this.scale;
    this.scale = scale;
    for (const line of this.lines.values()) {
      if (line.dirty && line.visible) this.#show(line, now);
      else if (rescaled && !line.dirty) line.scale(scale);
    }
  }

  /** Let time run: ages and times to live in sight, and some of the rows out of sight that changed. */
  tick(now) {
    let budget = UNSEEN_PER_TICK;
    for (const line of this.lines.values()) {
      if (line.visible) line.tick(now);
      else if (line.dirty && budget > 0) {
        budget -= 1;
        this.#show(line, now);
      }
    }
  }

  /** Put the rows in order; rows that the filter leaves out, or that are too many, are taken off the table. */
  order(now) {
    this.unordered = false;
    const { key, direction } = this.sort;
    const value = KEYS[key];
    const wanted = [];
    for (const line of this.lines.values()) {
      if (line.search.includes(this.filter)) wanted.push([value(line, now), line]);
    }
    wanted.sort(([a, one], [b, other]) => compare(a, b, direction) || compare(one.symbol, other.symbol, 1));
    const chosen = wanted.findIndex(([, line]) => line.symbol === this.view.symbol);
    const laid = wanted.slice(0, MOST);
    if (chosen >= MOST) laid.push(wanted[chosen]);
    let node = this.body.firstElementChild;
    for (const [, line] of laid) {
      if (line.node === node) node = node.nextElementSibling;
      else this.#place(line, node);
    }
    while (node) {
      const next = node.nextElementSibling;
      this.observer.unobserve(node);
      node.line.visible = false;
      node.remove();
      node = next;
    }
    this.shown = laid.length;
    this.#choose();
    if (!this.sought) return;
    this.sought = false; // a link leads to the row only when it first appears
    this.chosen?.node.scrollIntoView({ block: "center" });
  }

  #place(line, before) {
    const added = !line.node.isConnected;
    this.body.insertBefore(line.node, before);
    if (added) this.observer.observe(line.node);
  }

  #show(line, now) {
    line.paint(this.scale);
    line.tick(now);
  }

  #look(entries) {
    for (const entry of entries) entry.target.line.visible = entry.isIntersecting;
    this.onSight?.();
  }

  #sortBy(key) {
    const direction = this.sort.key === key ? -this.sort.direction : ASCENDING_FIRST.has(key) ? 1 : -1;
    this.view.set({ sort: direction > 0 ? key : `-${key}` });
  }
}

function compare(a, b, direction) {
  if (a === b) return 0;
  if (a === null) return 1;
  if (b === null) return -1;
  return (a < b ? -1 : 1) * direction;
}

/** The next of 10, 20, 50, 100, 200, … so that the net bars' scale seldom changes. */
function roundUp(quantity) {
  let scale = 10;
  for (const factor of cycle([2, 2.5, 2])) {
    if (quantity <= scale) return scale;
    scale *= factor;
  }
}

function* cycle(values) {
  for (;;) yield* values;
}
