/** The figures above the table: what all rows come to, and the exposure in use. */

import { byId, put } from "./dom.js";
import { signed, whole } from "./format.js";

const RATE_WINDOW = 5000;

export class Totals {
  constructor() {
    this.symbols = byId("total-symbols");
    this.gross = byId("total-gross");
    this.net = byId("total-net");
    this.fills = byId("total-fills");
    this.rate = byId("total-rate");
    this.sides = { bid: byId("exposure-bid"), ask: byId("exposure-ask") };
    this.samples = [];
  }

  /** Forget the fill counts so far: after a gap, their growth is no rate. */
  restart() {
    this.samples = [];
  }

  /** Sum up all rows, whatever the filter leaves out. */
  count(lines, at) {
    let gross = 0;
    let net = 0;
    let fills = 0;
    for (const { row } of lines.values()) {
      gross += Math.abs(row.net_quantity);
      net += row.net_quantity;
      fills += row.position_version; // the number of the last fill applied, counted from 1
    }
    put(this.symbols, whole(lines.size));
    put(this.gross, whole(gross));
    put(this.net, signed(net));
    this.net.dataset.sign = Math.sign(net);
    put(this.fills, whole(fills));
    this.samples.push({ at, fills });
    while (this.samples.length > 2 && this.samples[1].at < at - RATE_WINDOW) this.samples.shift();
    const [oldest] = this.samples;
    const seconds = (at - oldest.at) / 1000;
    put(this.rate, seconds >= 1 ? `${whole(Math.round((fills - oldest.fills) / seconds))}/s` : "");
  }

  /** Show the exposure in use, or that it is not known. */
  expose(usage, detail) {
    for (const [side, node] of Object.entries(this.sides)) {
      const used = usage?.[side];
      node.classList.toggle("unknown", !usage);
      node.title = usage ? "Lots reserved for quotes, of the limit per side" : `Not known: ${detail}`;
      put(node.querySelector(".number"), usage ? `${whole(used)} of ${whole(usage.limit)}` : "unknown");
      node.querySelector("i").style.transform = `scaleX(${usage ? Math.min(1, used / usage.limit) : 0})`;
      node.classList.toggle("full", Boolean(usage) && used >= usage.limit);
    }
  }
}
