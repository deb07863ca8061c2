/** Orders that are rejected or refused, per second and by reason. */

import { byId, put } from "./dom.js";

const EXECUTED = new Set(["filled", "partially_filled"]);
const REJECTED = new Set(["no_active_quote", "quote_expired", "not_marketable", "quote_exhausted"]); // all others are refusals

export class Rejected {
  constructor() {
    this.node = byId("rejected");
  }

  /** Take orders per second by outcome. */
  take(answered) {
    const found = Object.entries(answered).filter(([outcome]) => !EXECUTED.has(outcome));
    found.sort(([, one], [, other]) => other - one);
    const rate = found.reduce((sum, [, each]) => sum + each, 0);
    const reasons = found.map(([outcome, each]) => `${outcome.replaceAll(/[_-]/g, " ")} ${each.toFixed(1)}`);
    put(this.node, !found.length ? "No orders rejected" : `Rejected ${rate.toFixed(1)}/s: ${reasons.slice(0, SHOWN).join(", ")}${found.length > SHOWN ? ", …" : ""}`);
    this.node.title = found.length ? `Orders per second over the last 10 s: ${reasons.join(", ")}` : "";
    this.node.classList.toggle("refused", found.some(([outcome]) => !REJECTED.has(outcome)));
  }
}

const SHOWN = 3;
