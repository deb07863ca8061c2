/**
 * The table: its rows, their order, and when each of them is painted.
 *
 * Rows in sight are painted in the next frame after they change. The others are painted a few at a time, so that searching
 * the page and screen readers find current data, yet five hundred busy symbols cost no more than a screenful. If there are
 * thousands of symbols, only the rows near those in sight are in the table, and padding replaces the others.
 *
 * All rows have the same height, so the rows in sight follow from the position of the table. It is measured only after
 * something has scrolled or changed its size. An observer of each row would make the browser check all rows in every frame.
 */

import { Row, STATES } from "./row.js";

const UNSEEN_PER_TICK = 20;

const ORDER = Object.keys(STATES);
const remaining = (row, side) => row.data.quote?.[`${side}_remaining`] ?? null;
const price = (row, side) => (row.data.quote?.[`${side}_quantity`] ? Number(row.data.quote[`${side}_price`]) : null);

/** The value by which each column sorts. Null sorts last in both directions, and ended rows after that. */
const KEYS = {
  symbol: (row) => row.symbol,
  net: (row) => row.data.net_quantity,
  version: (row) => row.data.position_version,
  fill: (row) => row.data.last_fill?.quantity ?? null,
  age: (row, now) => (row.data.updatedAt === null ? null : now - row.data.updatedAt),
  profit: (row, now) => row.profitAt(now)?.numbers[0] ?? null,
  bidQuantity: (row) => remaining(row, "bid"),
  bid: (row) => price(row, "bid"),
  ask: (row) => price(row, "ask"),
  askQuantity: (row) => remaining(row, "ask"),
  ttl: (row, now) => (row.stateAt(now) === "active" ? row.data.quote.expiresAt - now : null),
  state: (row, now) => ORDER.indexOf(row.stateAt(now)),
};
const MAX_ATTACHED = 600; // with more symbols, only the rows near those in sight are in the table
const WIDE = "(width >= 1280px)"; // a symbol's chart is then below the table, as in columns.js
const HEADER_ROWS = 2; // rows of the table's head
const MARGIN = 80; // rows in the table above and below those in sight
const SIGHT_MARGIN = 8; // rows above and below those in sight that are treated like them: one turn of the wheel shows them
const ATTACH_AHEAD = 30; // rows are attached when those in sight are this close to the end of the attached ones
const ASCENDING_FIRST = new Set(["symbol", "age", "ttl"]);

export class Blotter {
  /** @param {{ symbol: string, sort: string, filter: string, set: (changes: object) => void }} view */
  constructor(table, region, view) {
    this.view = view;
    this.table = table;
    this.body = table.tBodies[0];
    this.headers = [...table.querySelectorAll("th[data-key]")];
    this.rows = new Map();
    this.sort = null;
    this.filter = "";
    this.chosen = null;
    this.region = region;
    this.listed = []; // the rows that match the filter, in order
    this.start = 0; // indexes in `listed` of the first row in the table, and of the one after the last
    this.end = 0;
    this.sightRange = [0, 0]; // indexes of the first row in sight, and of the one after the last
    this.inSight = []; // these rows
    this.sightChanged = false; // other rows may have come in sight
    this.needsRows = false; // some rows in sight, or soon to be, are not in the table
    this.lastUnseen = 0; // the index in the table of the row out of sight that was painted last
    this.rowHeight = 25; // pixels
    this.orderedFilter = null; // the filter at the last ordering
    this.scale = 10;
    this.needsOrder = false;
    this.revealsChosen = false;
    for (const header of this.headers) {
      header.querySelector("button").addEventListener("click", () => this.#sortBy(header.dataset.key));
    }
    const onMove = () => {
      this.sightChanged = true;
      this.onSightChange?.();
    };
    region.addEventListener("scroll", onMove, { passive: true });
    addEventListener("scroll", onMove, { passive: true });
    addEventListener("resize", onMove, { passive: true });
    const sizes = new ResizeObserver(onMove);
    sizes.observe(region);
    sizes.observe(this.body);
    this.body.addEventListener("click", (event) => {
      const row = event.target.closest("tr")?.row;
      if (!row || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      view.set({ symbol: row.symbol });
    });
    this.follow();
  }

  /** Apply the view's order, filter and chosen symbol. */
  follow() {
    const descending = this.view.sort.startsWith("-");
    const key = this.view.sort.slice(descending ? 1 : 0);
    this.sort = Object.hasOwn(KEYS, key) ? { key, direction: descending ? -1 : 1 } : { key: "symbol", direction: 1 };
    for (const header of this.headers) {
      if (header.dataset.key !== this.sort.key) header.removeAttribute("aria-sort");
      else header.setAttribute("aria-sort", this.sort.direction > 0 ? "ascending" : "descending");
    }
    this.filter = this.view.filter.trim().toLowerCase();
    this.needsOrder = true;
    this.#choose();
  }

  /** The number of rows that match the filter. */
  get shown() {
    return this.listed.length;
  }

  /** True if the window has this many free pixels below the table. */
  leavesRoom(pixels) {
    return matchMedia(WIDE).matches && this.region.clientHeight - this.table.offsetHeight >= pixels;
  }

  /** Choose the row that is `step` rows after the chosen one; the first row if none is chosen. */
  step(step) {
    const from = this.listed.indexOf(this.chosen);
    const index = from < 0 ? 0 : Math.max(0, Math.min(this.listed.length - 1, from + step));
    const row = this.listed[index];
    if (!row) return;
    this.view.set({ symbol: row.symbol });
    this.#reveal(index, "nearest");
    row.link.focus({ preventScroll: true });
  }

  #choose() {
    const row = this.rows.get(this.view.symbol) ?? null;
    if (row === this.chosen) return;
    this.chosen?.choose(false);
    row?.choose(true);
    this.chosen = row;
  }

  /** Take the data of rows. With `history` these are all rows, and any others are removed. */
  take(rows, history, at) {
    if (history) {
      const named = new Set(rows.map(({ symbol }) => symbol));
      for (const [symbol, row] of this.rows) {
        if (named.has(symbol)) continue;
        if (row.attached) this.#detach(row);
        this.rows.delete(symbol);
        this.needsOrder = true;
      }
    }
    for (const data of rows) {
      let row = this.rows.get(data.symbol);
      if (!row) {
        row = new Row(data.symbol);
        this.rows.set(data.symbol, row);
        this.needsOrder = true;
        if (data.symbol === this.view.symbol) this.revealsChosen = true;
      }
      const ended = row.data && row.ended;
      row.take(data, history ? (history[data.symbol] ?? []) : null, at);
      if (row.ended !== ended) this.needsOrder = true;
    }
  }

  /** Find the rows in sight, if they may have changed. This reads the layout, so call it before anything is written. */
  measure() {
    if (this.sightChanged) this.#measure();
  }

  /** Paint the changed rows in sight. */
  paint(now) {
    if (this.needsOrder) this.order(now);
    else if (this.needsRows) this.#attachRows();
    let largest = 0;
    for (const row of this.rows.values()) largest = Math.max(largest, Math.abs(row.data.net_quantity));
    const scale = roundUp(largest);
    const rescaled = scale !== this.scale;
    this.scale = scale;
    for (const row of this.inSight) if (row.dirty) this.#show(row, now);
    if (!rescaled) return;
    for (const row of this.#attached) if (!row.dirty) row.scale(scale);
  }

  /** Update ages and times to live in sight, and paint some of the changed rows out of sight. `at` is the page's time. */
  tick(now, at) {
    for (const row of this.inSight) {
      row.tick(now);
      row.fade(at);
    }
    const attached = this.#attached;
    let budget = UNSEEN_PER_TICK;
    for (let checked = 0; checked < attached.length && budget > 0; checked += 1) {
      this.lastUnseen = (this.lastUnseen + 1) % attached.length;
      const row = attached[this.lastUnseen];
      if (!row.dirty || row.visible) continue;
      this.#show(row, now);
      budget -= 1;
    }
  }

  /** Order the rows that match the filter, and remove the others from the table. */
  order(now) {
    this.needsOrder = false;
    const { key, direction } = this.sort;
    const value = KEYS[key];
    const listed = [];
    for (const row of this.rows.values()) {
      if (row.search.includes(this.filter)) listed.push([row.ended ? null : value(row, now), row]);
    }
    listed.sort(([a, one], [b, other]) => compare(a, b, direction) || one.ended - other.ended || compare(one.symbol, other.symbol, 1));
    this.listed = listed.map(([, row]) => row);
    this.#attachRows();
    this.#choose();
    // Scroll to the chosen row when it first appears, or when another filter has taken it out of the attached rows.
    const lost = this.orderedFilter !== this.filter && this.chosen && !this.chosen.attached;
    this.orderedFilter = this.filter;
    if (!this.revealsChosen && !lost) return;
    this.revealsChosen = false;
    const index = this.listed.indexOf(this.chosen);
    if (index >= 0) this.#reveal(index, "center");
  }

  /** Attach the rows that are in sight or near it, in order, and detach the others. */
  #attachRows() {
    this.needsRows = false;
    const all = this.listed.length <= MAX_ATTACHED;
    const [first, last] = all ? [0, this.listed.length] : this.sightRange;
    this.start = all ? 0 : Math.max(0, Math.min(first, this.listed.length) - MARGIN);
    this.end = all ? last : Math.min(this.listed.length, last + MARGIN);
    const attached = this.#attached;
    const named = new Set(attached);
    for (const node of [...this.body.children]) if (!named.has(node.row)) this.#detach(node.row);
    let node = this.body.firstElementChild;
    attached.forEach((row, index) => {
      if (row.node === node) node = node.nextElementSibling;
      else this.#attach(row, node);
      if (all) row.node.removeAttribute("aria-rowindex");
      else row.node.setAttribute("aria-rowindex", this.start + index + HEADER_ROWS + 1);
    });
    if (all) this.table.removeAttribute("aria-rowcount");
    else this.table.setAttribute("aria-rowcount", this.listed.length + HEADER_ROWS);
    this.#padTable(all);
    this.#updateSight();
  }

  /** The rows in the table, in order. */
  get #attached() {
    return this.listed.slice(this.start, this.end);
  }

  /** Pad the table above and below by the height of the rows that are not in it. */
  #padTable(all) {
    this.body.style.paddingBlock = all ? "" : `${this.start * this.rowHeight}px ${(this.listed.length - this.end) * this.rowHeight}px`;
  }

  /** Measure which rows are in sight. */
  #measure() {
    this.sightChanged = false;
    const height = this.body.firstElementChild?.offsetHeight || this.rowHeight;
    if (height !== this.rowHeight) {
      this.rowHeight = height;
      this.#padTable(this.listed.length <= MAX_ATTACHED);
    }
    const { top, bottom } = this.region.getBoundingClientRect();
    const from = Math.max(0, top) - this.body.getBoundingClientRect().top;
    const high = Math.max(0, Math.min(innerHeight, bottom) - Math.max(0, top));
    const first = Math.max(0, Math.floor(from / this.rowHeight));
    const last = first + Math.ceil(high / this.rowHeight) + 1;
    this.sightRange = [first, last];
    const some = this.listed.length > MAX_ATTACHED;
    this.needsRows = some && ((this.start > 0 && first < this.start + ATTACH_AHEAD) || (this.end < this.listed.length && last > this.end - ATTACH_AHEAD));
    this.#updateSight();
  }

  /** Set `visible` of the rows in sight. */
  #updateSight() {
    const before = this.inSight;
    for (const row of before) row.visible = false;
    const [first, last] = this.sightRange;
    this.inSight = this.listed.slice(Math.max(0, first - SIGHT_MARGIN), last + SIGHT_MARGIN).filter((row) => row.attached);
    for (const row of this.inSight) row.visible = true;
    for (const row of before) if (!row.visible) row.fade(Infinity);
  }

  /** Scroll a row into sight. */
  #reveal(index, block) {
    const row = this.listed[index];
    if (!row.attached) {
      this.#measure();
      const [first, last] = this.sightRange;
      const by = (index - (first + last) / 2) * this.rowHeight;
      const scroller = this.region.scrollHeight > this.region.clientHeight ? this.region : window;
      scroller.scrollBy({ top: by, behavior: "instant" });
      this.#measure();
      this.#attachRows();
    }
    row.node.scrollIntoView({ block });
  }

  #attach(row, before) {
    this.body.insertBefore(row.node, before);
    if (row.attached) return;
    row.attached = true;
    row.dirty = true;
  }

  #detach(row) {
    row.attached = false;
    row.visible = false;
    row.node.remove();
  }

  #show(row, now) {
    row.paint(this.scale);
    row.tick(now);
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

/** Round up to one of 10, 20, 50, 100, 200, … so that the scale of the net bars seldom changes. */
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
