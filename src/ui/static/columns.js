/**
 * Which columns the table has, and how close its rows are: chosen in a menu, and kept in the browser.
 *
 * Where there is no room for all that are chosen, those go that are missed least, so that none is cut off unseen.
 */

import { byId, element } from "./dom.js";
import { keep, kept } from "./keep.js";
import { OF_PROFIT } from "./spark.js";

/** Every column that may be left out, with the pixels it needs, which are its share of the width, too. The symbol and the state are always there. */
const COLUMNS = {
  net: ["Net", 100],
  trend: [OF_PROFIT ? "Profits" : "Trend", 84],
  version: ["Version", 72],
  fill: ["Last fill", 138],
  age: ["Age", 52],
  profit: ["Profit", 76],
  bidQuantity: ["Bid qty", 67],
  bid: ["Bid", 74],
  ask: ["Ask", 74],
  askQuantity: ["Ask qty", 67],
  ttl: ["Time to live", 90],
};
const SYMBOL = 88;
const STATE = 108;
const POSITION = ["net", "trend", "version", "fill", "age", "profit"];
const MISSED_LEAST = ["trend", "version", "age", "bidQuantity", "askQuantity", "fill", "ttl"];
const NARROW = "(width < 1280px)"; // where there is no room below the table: the symbol's chart is with its details
const CARDS = 640; // pixels of the window's width, as narrow.css has it: there each symbol is a card

export class Columns {
  constructor() {
    this.table = byId("blotter");
    this.region = byId("region");
    this.menu = byId("columns");
    this.hidden = new Set(kept("hidden-columns", []).filter((name) => Object.hasOwn(COLUMNS, name)));
    this.labels = new Map();
    const list = byId("columns-list");
    for (const [name, [label]] of Object.entries(COLUMNS)) {
      const box = element("input");
      box.type = "checkbox";
      box.checked = !this.hidden.has(name);
      box.addEventListener("change", () => this.#set(name, box.checked));
      const node = element("label", "", box, label);
      this.labels.set(name, node);
      list.append(node);
    }
    this.roomy = byId("roomy");
    this.roomy.checked = kept("roomy", false);
    this.roomy.addEventListener("change", () => {
      keep("roomy", this.roomy.checked);
      this.#apply();
    });
    const charts = byId("charts");
    charts.checked = kept("charts", true);
    const show = () => (document.documentElement.dataset.charts = charts.checked ? "shown" : "hidden");
    charts.addEventListener("change", () => {
      keep("charts", charts.checked);
      show();
    });
    show();
    for (const id of ["own-zone", "trend-of-profit"]) {
      const box = byId(id);
      box.checked = kept(id, false);
      box.addEventListener("change", () => {
        keep(id, box.checked);
        location.reload(); // which shows the same, with every time or trend as it was chosen
      });
    }
    if (OF_PROFIT) {
      const header = this.table.querySelector("th.trend");
      header.title = "Recent profits, newest at the right";
      [header.textContent] = COLUMNS.trend;
      this.table.dataset.trend = "profit";
    }
    const narrow = matchMedia(NARROW);
    const place = () => {
      if (narrow.matches) document.querySelector("#detail dl").before(byId("chart-symbol"));
      else byId("left").append(byId("chart-symbol"));
    };
    narrow.addEventListener("change", place);
    place();
    addEventListener("pointerdown", (event) => {
      if (this.menu.open && !this.menu.contains(event.target)) this.menu.open = false;
    });
    this.menu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.menu.open = false;
      this.menu.querySelector("summary").focus();
    });
    new ResizeObserver(() => this.#apply()).observe(this.region);
    this.#apply();
  }

  #set(name, shown) {
    if (shown) this.hidden.delete(name);
    else this.hidden.add(name);
    keep("hidden-columns", [...this.hidden]);
    this.#apply();
  }

  #apply() {
    const shown = this.#fitting();
    const out = Object.keys(COLUMNS).filter((name) => !shown.includes(name));
    for (const [name, label] of this.labels) label.classList.toggle("crowded", out.includes(name) && !this.hidden.has(name));
    const inPosition = shown.filter((name) => POSITION.includes(name)).length;
    const shares = [SYMBOL, ...shown.map(share), STATE];
    const { style } = this.table;
    style.setProperty("--columns", shares.map((each) => `minmax(0, ${each}fr)`).join(" "));
    style.setProperty("--least", `${least(shown)}px`);
    style.setProperty("--in-position", inPosition);
    style.setProperty("--in-quote", shown.length - inPosition + 1);
    this.table.dataset.without = [...out, ...(inPosition ? [] : ["position"])].join(" ");
    document.documentElement.dataset.density = this.roomy.checked ? "roomy" : "close";
  }

  /** The chosen columns for which there is room. */
  #fitting() {
    let shown = Object.keys(COLUMNS).filter((name) => !this.hidden.has(name));
    if (innerWidth < CARDS) return shown;
    for (const name of MISSED_LEAST) {
      if (least(shown) <= this.region.clientWidth) break;
      shown = shown.filter((other) => other !== name);
    }
    return shown;
  }
}

function share(name) {
  return COLUMNS[name][1];
}

/** Pixels that the table needs with these columns. */
function least(shown) {
  return SYMBOL + STATE + shown.reduce((sum, name) => sum + share(name), 0);
}
