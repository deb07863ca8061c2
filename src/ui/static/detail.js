/** The chosen symbol: its quote, what it was made from, and by whom as far as that is known. */

import { byId, reveal, Text } from "./dom.js";
import { clock, money, signed, whole } from "./format.js";
import { STATES } from "./row.js";

export class Detail {
  constructor() {
    this.node = byId("detail");
    const text = (id) => new Text(byId(id));
    this.name = text("detail-name");
    this.position = text("detail-position");
    this.state = text("detail-state");
    this.quote = text("detail-quote");
    this.basis = text("detail-basis");
    this.by = text("detail-by");
    this.life = text("detail-life");
    this.profit = text("detail-profit");
    this.mark = text("detail-mark");
    this.average = text("detail-average");
    this.fees = text("detail-fees");
    this.button = byId("explain");
  }

  /** Show a symbol's line at a server time; nothing if `symbol` is empty. */
  show(symbol, line, now) {
    reveal(this.node, Boolean(symbol));
    if (!symbol) return;
    const row = line?.row;
    const quote = row?.quote;
    this.name.set(symbol);
    this.position.set(row ? `${signed(row.net_quantity)} lots at version ${whole(row.position_version)}` : "There is no such symbol");
    this.state.set(row ? `${STATES[line.stateAt(now)]}${line.reason ? `: ${line.reason}` : ""}` : "–");
    this.quote.set(quote?.quote_id ?? "–");
    this.basis.set(quote ? `position version ${whole(quote.position_version)}, attempt ${quote.attempt}` : "–");
    // Makers come to the same quote with the same id, so the log does not name the one that was first.
    this.by.set(!quote ? "–" : quote.derived ? "a maker; its story tells which, if the logs do" : "not a maker of ours, by its id");
    this.life.set(quote ? `${clock(quote.activatedAt)} to ${clock(quote.expiresAt)}` : "–");
    const profit = row ? line.profitAt(now) : null;
    this.profit.set(profit ? `${money(profit.total)}: realized ${money(profit.realized)}, unrealized ${money(profit.unrealized)}` : "–");
    this.mark.set(line?.markAt(now) || "–");
    this.average.set(row?.money?.average_price ? shortened(row.money.average_price) : "–");
    this.fees.set(row?.money ? `${row.money.fees}, of ${whole(row.money.volume)} lots` : "–");
    this.button.disabled = !quote;
  }
}

/** An average price with so many digits that no more are of use: "2637.768757468866" → "2637.7688" */
function shortened(price) {
  return price.length > DIGITS ? String(Number(Number(price).toPrecision(DIGITS))) : price;
}

const DIGITS = 8;
