/** The newest fills of all symbols, or of the chosen one. */

import { byId, mark, reveal, Text } from "./dom.js";
import { clock, whole } from "./format.js";

const SHOWN = 40;
const KEPT = 10; // per symbol, as on the server

export class Fills {
  /**
   * @param {(symbol: string) => void} onSymbol a fill's symbol was chosen
   * @param {(quoteId: string, symbol: string) => void} onQuote a fill's quote was chosen
   */
  constructor(onSymbol, onQuote) {
    this.bySymbol = new Map();
    this.newest = [];
    this.symbol = "";
    this.changed = true;
    this.heading = new Text(byId("fills-heading"));
    this.empty = byId("fills-empty");
    this.body = byId("fills").tBodies[0];
    this.items = [];
    this.body.addEventListener("click", (event) => {
      const fill = event.target.closest("tr")?.fill;
      if (!fill || !event.target.closest("button")) return;
      if (event.target.closest(".quote")) onQuote(fill.quote_id, fill.symbol);
      else onSymbol(fill.symbol);
    });
  }

  /** Take fills; a snapshot replaces all. Fills that are known already are ignored. */
  take(fills, snapshot) {
    if (snapshot) {
      this.bySymbol.clear();
      this.newest = [];
      this.changed = true;
    }
    if (!fills.length) return;
    fills.sort((one, other) => one.number - other.number);
    const fresh = [];
    for (const fill of fills) {
      let of = this.bySymbol.get(fill.symbol);
      if (!of) this.bySymbol.set(fill.symbol, (of = []));
      if (of.length && of.at(-1).number >= fill.number) continue;
      fill.createdAt = Date.parse(fill.created_at);
      of.push(fill);
      if (of.length > KEPT) of.shift();
      fresh.push(fill);
    }
    this.newest = [...fresh, ...this.newest].sort(byTime).slice(0, SHOWN);
    this.changed = true;
  }

  /** Show the fills of one symbol, or of all if `symbol` is empty. */
  choose(symbol) {
    if (symbol === this.symbol) return;
    this.symbol = symbol;
    this.changed = true;
  }

  /** The newest fills of a symbol, in order. */
  of(symbol) {
    return this.bySymbol.get(symbol) ?? [];
  }

  paint() {
    if (!this.changed) return;
    this.changed = false;
    const fills = this.symbol ? [...(this.bySymbol.get(this.symbol) ?? [])].sort(byTime) : this.newest;
    this.heading.set(this.symbol ? `Recent fills of ${this.symbol}` : "Recent fills");
    reveal(this.empty, fills.length === 0);
    while (this.items.length < fills.length) this.items.push(new FillItem(this.body));
    this.items.forEach((item, index) => item.show(fills[index]));
  }
}

function byTime(one, other) {
  return other.createdAt - one.createdAt || other.number - one.number || (one.symbol < other.symbol ? -1 : 1);
}

class FillItem {
  constructor(body) {
    this.node = byId("fill").content.firstElementChild.cloneNode(true);
    const text = (selector) => new Text(this.node.querySelector(selector));
    this.time = text(".time");
    this.symbol = text(".symbol button");
    this.side = text(".side");
    this.value = text(".value");
    this.quote = text(".quote button");
    body.append(this.node);
  }

  show(fill) {
    reveal(this.node, Boolean(fill));
    this.node.fill = fill;
    if (!fill) return;
    mark(this.node, "side", fill.side);
    this.time.set(clock(fill.createdAt).slice(0, 8));
    this.symbol.set(fill.symbol);
    this.side.set(fill.side);
    this.value.set(`${whole(fill.quantity)} @ ${fill.price}`);
    this.quote.set(fill.quote_id.startsWith(`${fill.symbol}-`) ? fill.quote_id.slice(fill.symbol.length + 1) : fill.quote_id);
  }
}
