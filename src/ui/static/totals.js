/** The figures above the table: the sums over all rows, and the exposure in use. */

import { byId, hint, mark, put, Text } from "./dom.js";
import { age, money, signed, signOf, whole } from "./format.js";
import { PARTS } from "./row.js";

const RATE_WINDOW = 5000;

export class Totals {
  constructor() {
    this.largest = byId("total-largest");
    this.largestSymbol = byId("total-largest-symbol");
    this.gross = byId("total-gross");
    this.net = byId("total-net");
    this.fills = byId("total-fills");
    this.rate = byId("total-rate");
    this.last = byId("total-last");
    this.lastSymbol = byId("total-last-symbol");
    this.profit = byId("total-profit");
    this.realized = byId("total-realized");
    this.unrealized = byId("total-unrealized");
    this.fees = byId("total-fees");
    this.unknown = byId("total-unknown");
    this.sides = { bid: new Side(byId("exposure-bid")), ask: new Side(byId("exposure-ask")) };
    this.samples = [];
  }

  /** Forget the fill counts so far: after a gap, their increase is not a rate. */
  restart() {
    this.samples = [];
  }

  /** Sum up all rows, including those that do not match the filter. `now` is the server's time. */
  count(rows, at, now) {
    let gross = 0;
    let net = 0;
    let fills = 0;
    const parts = PARTS.map(() => 0);
    let unknown = 0;
    let largest = null;
    let newest = null;
    for (const row of rows.values()) {
      const { data } = row;
      const profit = row.profitAt(now);
      if (profit) for (let part = 0; part < parts.length; part += 1) parts[part] += profit.numbers[part];
      else unknown += 1;
      gross += Math.abs(data.net_quantity);
      if (data.net_quantity && (!largest || Math.abs(data.net_quantity) > Math.abs(largest.net_quantity))) largest = data;
      if (data.updatedAt > (newest?.updatedAt ?? 0)) newest = data;
      net += data.net_quantity;
      fills += data.position_version; // the number of the last fill applied, counted from 1
    }
    put(this.largest, largest ? signed(largest.net_quantity) : "none");
    mark(this.largest, "sign", Math.sign(largest?.net_quantity ?? 0));
    put(this.largestSymbol, largest?.symbol ?? "");
    const since = newest && age(Math.max(0, now - newest.updatedAt));
    put(this.last, !newest ? "none" : since === "now" ? since : `${since} ago`);
    put(this.lastSymbol, newest?.symbol ?? "");
    put(this.gross, whole(gross));
    put(this.net, signed(net));
    mark(this.net, "sign", Math.sign(net));
    put(this.fills, whole(fills));
    this.#showProfit(parts, unknown);
    this.samples.push({ at, fills });
    while (this.samples.length > 2 && this.samples[1].at < at - RATE_WINDOW) this.samples.shift();
    const [oldest] = this.samples;
    const seconds = (at - oldest.at) / 1000;
    put(this.rate, seconds >= 1 ? `${whole(Math.round((fills - oldest.fills) / seconds))}/s` : "");
  }

  #showProfit([total, realized, unrealized, fees], unknown) {
    put(this.profit, money(total));
    mark(this.profit, "sign", signOf(total));
    put(this.realized, money(realized));
    put(this.unrealized, money(unrealized));
    put(this.fees, money(fees).slice(signOf(fees)));
    put(this.unknown, unknown ? `${whole(unknown)} not known` : "");
  }

  /** Show the exposure in use, or that it is not known. */
  expose(usage, detail) {
    for (const [name, side] of Object.entries(this.sides)) side.show(usage, usage?.[name], detail);
  }
}

/** The exposure of one side: the lots in use, the limit, and a bar. */
class Side {
  constructor(node) {
    this.node = node;
    this.of = new Text(node.querySelector(".number small"));
    this.number = node.querySelector(".number").firstChild;
    this.bar = node.querySelector("i");
  }

  show(usage, used, detail) {
    const { node } = this;
    node.classList.toggle("unknown", !usage);
    hint(node, usage ? "Lots reserved for quotes, of the limit per side" : `Not known: ${detail}`);
    const text = usage ? whole(used) : "unknown";
    if (this.number.data !== text) this.number.data = text;
    this.of.set(usage ? ` of ${whole(usage.limit)}` : "");
    this.bar.style.transform = `scaleX(${usage ? Math.min(1, used / usage.limit) : 0})`;
    node.classList.toggle("full", Boolean(usage) && used >= usage.limit);
  }
}
