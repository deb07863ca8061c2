/** Whether all is well, in one sentence: what a reader asks first. */

import { byId, mark, put } from "./dom.js";
import { whole } from "./format.js";

const PATIENCE = 5000; // milliseconds that may be between one quote of a symbol and the next

export class Well {
  constructor() {
    this.node = byId("well");
  }

  /**
   * Say how things are at a server time.
   *
   * @param {Map<string, import("./row.js").Row>} lines of all symbols
   * @param {import("./processes.js").Processes} processes
   * @param {string[]} troubles that others know of
   * @param {boolean} paused by the kill switch, so that it is no news that no symbol is quoted
   */
  show(lines, processes, troubles, paused, now) {
    const [quoted, due] = count(lines, now);
    const { all, unwell } = processes;
    const found = [...troubles];
    if (unwell) found.push(`${whole(unwell)} of ${whole(all)} processes not ready`);
    if (quoted < due && !paused) found.push(`${whole(due - quoted)} of ${whole(due)} symbols not quoted`);
    mark(this.node, "well", found.length === 0);
    const off = lines.size > due ? `, ${whole(lines.size - due)} not to be` : "";
    put(this.node, found.length ? `Not well: ${found.join(", ")}` : `All well: ${whole(all)} processes ready, ${whole(quoted)} of ${whole(lines.size)} symbols quoted${off}`);
  }

  /** Say nothing: how things are is not known. */
  clear() {
    delete this.node.dataset.well;
    put(this.node, "");
  }
}

/** How many symbols are quoted, or will be in a moment; and how many are to be. */
function count(lines, now) {
  let [quoted, due] = [0, 0];
  for (const line of lines.values()) {
    const { instrument, net_quantity: net } = line.row;
    if (line.stateAt(now) === "active") line.quotedAt = now;
    else if (instrument === "paused" || instrument === "delisted" || (instrument === "close_only" && !net)) continue;
    due += 1;
    if (now - line.quotedAt <= PATIENCE) quoted += 1;
  }
  return [quoted, due];
}
