/**
 * The table: its rows, their order, and which of them are painted when.
 *
 * Rows in sight are painted with the next picture after they change; the others a few at a time, so that searching the page
 * and screen readers find the truth, yet five hundred busy symbols cost no more than a screenful. Of thousands of symbols only
 * the rows near those in sight are on the table, and empty room stands for the others.
 *
 * All rows are of one height, so those in sight follow from where the table is. That is looked at only after something has
 * scrolled or has another size: an observer of each row would have the browser look at all of them in every frame.
 */

import { Row, STATES } from "./row.js";

const UNSEEN_PER_TICK = 20;

const ORDER = Object.keys(STATES);
const remaining = (line, side) => line.row.quote?.[`${side}_remaining`] ?? null;
const price = (line, side) => (line.row.quote?.[`${side}_quantity`] ? Number(line.row.quote[`${side}_price`]) : null);

/** What each column sorts by; null sorts last either way, and what is over after that. */
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
/** Symbols of which all rows are on the table. Of more, only those are that are in sight or near it. */
const MOST = 600;
const WIDE = "(width >= 1280px)"; // where a symbol's chart is below the table, as in columns.js
const HEADS = 2; // rows above them
const NEAR = 80; // rows above and below those in sight
const ABOUT = 8; // rows above and below those in sight that count as in sight: a turn of the wheel brings them there
const SOON = 30; // rows before the end of those on the table at which others are put there
const ASCENDING_FIRST = new Set(["symbol", "age", "ttl"]);

export class Blotter {
  /** @param {{ symbol: string, sort: string, filter: string, set: (changes: object) => void }} view */
  constructor(table, region, view) {
    this.view = view;
    this.table = table;
    this.body = table.tBodies[0];
    this.headers = [...table.querySelectorAll("th[data-key]")];
    this.lines = new Map();
    this.sort = null;
    this.filter = "";
    this.chosen = null;
    this.region = region;
    this.wanted = []; // the lines that the filter leaves, in order
    this.start = 0; // which of them is the first on the table
    this.end = 0;
    this.sight = [0, 0]; // which of them are in sight: the first, and the one after the last
    this.seen = []; // the lines there
    this.moved = false; // others may have come in sight
    this.lacking = false; // some of those in sight, or soon to be, are not on the table
    this.turn = 0; // the row on the table, of those out of sight, that was painted last: all get their turn
    this.tall = 25; // pixels of a row
    this.ordered = null; // the filter by which they are in order
    this.scale = 10;
    this.unordered = false;
    this.sought = false;
    for (const header of this.headers) {
      header.querySelector("button").addEventListener("click", () => this.#sortBy(header.dataset.key));
    }
    const look = () => {
      this.moved = true;
      this.onSight?.();
    };
    region.addEventListener("scroll", look, { passive: true });
    addEventListener("scroll", look, { passive: true });
    addEventListener("resize", look, { passive: true });
    const sizes = new ResizeObserver(look);
    sizes.observe(region);
    sizes.observe(this.body);
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

  /** How many rows there are, with those that there is only room for. */
  get shown() {
    return this.wanted.length;
  }

  /** Whether the window has so many pixels below the table, where the table does not scroll with the page. */
  leavesRoom(pixels) {
    return matchMedia(WIDE).matches && this.region.clientHeight - this.table.offsetHeight >= pixels;
  }

  /** Choose the row that is `step` rows after the chosen one, or the first. */
  step(step) {
    const from = this.wanted.indexOf(this.chosen);
    const index = from < 0 ? 0 : Math.max(0, Math.min(this.wanted.length - 1, from + step));
    const line = this.wanted[index];
    if (!line) return;
    this.view.set({ symbol: line.symbol });
    this.#reveal(index, "nearest");
    line.link.focus({ preventScroll: true });
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
        if (line.laid) this.#take(line);
        this.lines.delete(symbol);
        this.unordered = true;
      }
    }
    for (const row of rows) {
      let line = this.lines.get(row.symbol);
      if (!line) {
        line = new Row(row.symbol);
        this.lines.set(row.symbol, line);
        this.unordered = true;
        if (row.symbol === this.view.symbol) this.sought = true;
      }
      const before = line.row && line.over;
      line.take(row, history ? (history[row.symbol] ?? []) : null, at);
      if (line.over !== before) this.unordered = true;
    }
  }

  /** See which rows are in sight: the one time that the document is asked, before anything is written. */
  look() {
    if (this.moved) this.#look();
  }

  /** Paint what changed and is in sight. */
  paint(now) {
    if (this.unordered) this.order(now);
    else if (this.lacking) this.#lay();
    let largest = 0;
    for (const line of this.lines.values()) largest = Math.max(largest, Math.abs(line.row.net_quantity));
    const scale = roundUp(largest);
    const rescaled = scale !== this.scale;
    this.scale = scale;
    for (const line of this.seen) if (line.dirty) this.#show(line, now);
    if (!rescaled) return;
    for (const line of this.#laid) if (!line.dirty) line.scale(scale);
  }

  /** Let time run: ages and times to live in sight, and some of the rows out of sight that changed; `at` is the page's time. */
  tick(now, at) {
    for (const line of this.seen) {
      line.tick(now);
      line.fade(at);
    }
    const laid = this.#laid;
    let budget = UNSEEN_PER_TICK;
    for (let looked = 0; looked < laid.length && budget > 0; looked += 1) {
      this.turn = (this.turn + 1) % laid.length;
      const line = laid[this.turn];
      if (!line.dirty || line.visible) continue;
      this.#show(line, now);
      budget -= 1;
    }
  }

  /** Put the rows in order; those that the filter leaves out are taken off the table. */
  order(now) {
    this.unordered = false;
    const { key, direction } = this.sort;
    const value = KEYS[key];
    const wanted = [];
    for (const line of this.lines.values()) {
      if (line.search.includes(this.filter)) wanted.push([line.over ? null : value(line, now), line]);
    }
    wanted.sort(([a, one], [b, other]) => compare(a, b, direction) || one.over - other.over || compare(one.symbol, other.symbol, 1));
    this.wanted = wanted.map(([, line]) => line);
    this.#lay();
    this.#choose();
    // A link leads to the row only when it first appears; where most rows are not on the table, so does another filter.
    const lost = this.ordered !== this.filter && this.chosen && !this.chosen.laid;
    this.ordered = this.filter;
    if (!this.sought && !lost) return;
    this.sought = false;
    const index = this.wanted.indexOf(this.chosen);
    if (index >= 0) this.#reveal(index, "center");
  }

  /** Have those rows on the table that are in sight or near it, in order. */
  #lay() {
    this.lacking = false;
    const all = this.wanted.length <= MOST;
    const [first, last] = all ? [0, this.wanted.length] : this.sight;
    this.start = all ? 0 : Math.max(0, Math.min(first, this.wanted.length) - NEAR);
    this.end = all ? last : Math.min(this.wanted.length, last + NEAR);
    const laid = this.#laid;
    const named = new Set(laid);
    for (const node of [...this.body.children]) if (!named.has(node.line)) this.#take(node.line);
    let node = this.body.firstElementChild;
    laid.forEach((line, index) => {
      if (line.node === node) node = node.nextElementSibling;
      else this.#place(line, node);
      if (all) line.node.removeAttribute("aria-rowindex");
      else line.node.setAttribute("aria-rowindex", this.start + index + HEADS + 1);
    });
    if (all) this.table.removeAttribute("aria-rowcount");
    else this.table.setAttribute("aria-rowcount", this.wanted.length + HEADS);
    this.#makeRoom(all);
    this.#see();
  }

  /** The lines that are on the table, in order. */
  get #laid() {
    return this.wanted.slice(this.start, this.end);
  }

  /** Room above and below for the rows that are not on the table. */
  #makeRoom(all) {
    this.body.style.paddingBlock = all ? "" : `${this.start * this.tall}px ${(this.wanted.length - this.end) * this.tall}px`;
  }

  /** Find which rows are in sight now. */
  #look() {
    this.moved = false;
    const tall = this.body.firstElementChild?.offsetHeight || this.tall;
    if (tall !== this.tall) {
      this.tall = tall;
      this.#makeRoom(this.wanted.length <= MOST);
    }
    const { top, bottom } = this.region.getBoundingClientRect();
    const from = Math.max(0, top) - this.body.getBoundingClientRect().top;
    const high = Math.max(0, Math.min(innerHeight, bottom) - Math.max(0, top));
    const first = Math.max(0, Math.floor(from / this.tall));
    const last = first + Math.ceil(high / this.tall) + 1;
    this.sight = [first, last];
    const some = this.wanted.length > MOST;
    this.lacking = some && ((this.start > 0 && first < this.start + SOON) || (this.end < this.wanted.length && last > this.end - SOON));
    this.#see();
  }

  /** Have the lines know that are in sight. */
  #see() {
    const before = this.seen;
    for (const line of before) line.visible = false;
    const [first, last] = this.sight;
    this.seen = this.wanted.slice(Math.max(0, first - ABOUT), last + ABOUT).filter((line) => line.laid);
    for (const line of this.seen) line.visible = true;
    for (const line of before) if (!line.visible) line.fade(Infinity);
  }

  /** Bring a row in sight. */
  #reveal(index, block) {
    const line = this.wanted[index];
    if (!line.laid) {
      this.#look();
      const [first, last] = this.sight;
      const by = (index - (first + last) / 2) * this.tall;
      const scroller = this.region.scrollHeight > this.region.clientHeight ? this.region : window;
      scroller.scrollBy({ top: by, behavior: "instant" });
      this.#look();
      this.#lay();
    }
    line.node.scrollIntoView({ block });
  }

  #place(line, before) {
    this.body.insertBefore(line.node, before);
    if (line.laid) return;
    line.laid = true;
    line.dirty = true;
  }

  #take(line) {
    line.laid = false;
    line.visible = false;
    line.node.remove();
  }

  #show(line, now) {
    line.paint(this.scale);
    line.tick(now);
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
