/** The state of the whole system in one sentence. */

import { byId, mark, put } from "./dom.js";
import { whole } from "./format.js";

const PATIENCE = 5000; // milliseconds allowed between one quote of a symbol and the next

export class HealthSummary {
  constructor() {
    this.node = byId("health-summary");
  }

  /**
   * Show the state at a server time.
   *
   * @param {Map<string, import("./row.js").Row>} rows of all symbols
   * @param {import("./processes.js").Processes} processes
   * @param {string[]} problems that the caller has found
   * @param {boolean} paused by the kill switch, so that symbols without a quote are no problem
   */
  show(rows, processes, problems, paused, now) {
    const [quoted, due] = count(rows, now);
    const { all, notReady } = processes;
    const found = [...problems];
    if (notReady) found.push(`${whole(notReady)} of ${whole(all)} processes not ready`);
    if (quoted < due && !paused) found.push(`${whole(due - quoted)} of ${whole(due)} symbols not quoted`);
    mark(this.node, "healthy", found.length === 0);
    const off = rows.size > due ? `, ${whole(rows.size - due)} not to be` : "";
    put(this.node, found.length ? `Not well: ${found.join(", ")}` : `All well: ${whole(all)} processes ready, ${whole(quoted)} of ${whole(rows.size)} symbols quoted${off}`);
  }

  /** Show nothing, because the state is not known. */
  clear() {
    delete this.node.dataset.healthy;
    put(this.node, "");
  }
}

/** The number of symbols that are quoted, or will be in a moment, and of those that should be. */
function count(rows, now) {
  let [quoted, due] = [0, 0];
  for (const row of rows.values()) {
    const { instrument, net_quantity: net } = row.data;
    if (row.stateAt(now) === "active") row.quotedAt = now;
    else if (instrument === "paused" || instrument === "delisted" || (instrument === "close_only" && !net)) continue;
    due += 1;
    if (now - row.quotedAt <= PATIENCE) quoted += 1;
  }
  return [quoted, due];
}
