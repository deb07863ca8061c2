/** The chosen symbol: its quote, what the quote was made from, and by whom, if that is known. */

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

  /** Show a symbol's row at a server time; nothing if `symbol` is empty. */
  show(symbol, row, now) {
    reveal(this.node, Boolean(symbol));
    if (!symbol) return;
    const data = row?.data;
    const quote = data?.quote;
    this.name.set(symbol);
    this.position.set(data ? `${signed(data.net_quantity)} lots at version ${whole(data.position_version)}` : "There is no such symbol");
    this.state.set(data ? `${STATES[row.stateAt(now)]}${row.reason ? `: ${row.reason}` : ""}` : "–");
    this.quote.set(quote?.quote_id ?? "–");
    this.basis.set(quote ? `position version ${whole(quote.position_version)}, attempt ${quote.attempt}` : "–");
    // All makers derive the same quote with the same id, so the log does not show which of them made it.
    this.by.set(!quote ? "–" : quote.derived ? "a maker; its story names it, if the logs do" : "not a maker of ours, by its id");
    this.life.set(quote ? `${clock(quote.activatedAt)} to ${clock(quote.expiresAt)}` : "–");
    const profit = data ? row.profitAt(now) : null;
    this.profit.set(profit ? `${money(profit.total)}: realized ${money(profit.realized)}, unrealized ${money(profit.unrealized)}` : "–");
    this.mark.set(row?.markAt(now) || "–");
    this.average.set(data?.money?.average_price ? shortened(data.money.average_price) : "–");
    this.fees.set(data?.money ? `${data.money.fees}, of ${whole(data.money.volume)} lots` : "–");
    this.button.disabled = !quote;
  }
}

/** Shorten an average price to its useful digits: "2637.768757468866" → "2637.7688" */
function shortened(price) {
  return price.length > DIGITS ? String(Number(Number(price).toPrecision(DIGITS))) : price;
}

const DIGITS = 8;
