/**
 * The columns of the table and the height of its rows, chosen in a menu and saved in the browser.
 *
 * If there is no room for all chosen columns, the least important ones are hidden, so that none is cut off unnoticed.
 */

import { byId, element } from "./dom.js";
import { loadPreference, savePreference } from "./preferences.js";
import { OF_PROFIT } from "./spark.js";

/** The columns that may be hidden, with the pixels they need, which are also their shares of the width. */
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
const LEAST_IMPORTANT = ["trend", "version", "age", "bidQuantity", "askQuantity", "fill", "ttl"];
const NARROW = "(width < 1280px)"; // without room below the table, the symbol's chart is among its details
const CARDS = 640; // pixels of the window's width below which each symbol is a card, as in narrow.css

export class Columns {
  constructor() {
    this.table = byId("blotter");
    this.region = byId("region");
    this.menu = byId("columns");
    this.hidden = new Set(loadPreference("hidden-columns", []).filter((name) => Object.hasOwn(COLUMNS, name)));
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
    this.roomy.checked = loadPreference("roomy", false);
    this.roomy.addEventListener("change", () => {
      savePreference("roomy", this.roomy.checked);
      this.#apply();
    });
    const charts = byId("charts");
    charts.checked = loadPreference("charts", true);
    const show = () => (document.documentElement.dataset.charts = charts.checked ? "shown" : "hidden");
    charts.addEventListener("change", () => {
      savePreference("charts", charts.checked);
      show();
    });
    show();
    for (const id of ["own-zone", "trend-of-profit"]) {
      const box = byId(id);
      box.checked = loadPreference(id, false);
      box.addEventListener("change", () => {
        savePreference(id, box.checked);
        location.reload(); // shows the same view with the new setting
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
    savePreference("hidden-columns", [...this.hidden]);
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

  /** Return the chosen columns for which there is room. */
  #fitting() {
    let shown = Object.keys(COLUMNS).filter((name) => !this.hidden.has(name));
    if (innerWidth < CARDS) return shown;
    for (const name of LEAST_IMPORTANT) {
      if (least(shown) <= this.region.clientWidth) break;
      shown = shown.filter((other) => other !== name);
    }
    return shown;
  }
}

function share(name) {
  return COLUMNS[name][1];
}

/** Return the pixels that the table needs with these columns. */
function least(shown) {
  return SYMBOL + STATE + shown.reduce((sum, name) => sum + share(name), 0);
}
