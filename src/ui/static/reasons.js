/** Why a symbol is not quoted, or on one side only: as the makers say, or as its position and its quote show. */

const BRIEF = { bid: "bids only", ask: "asks only" };

export class Reasons {
  constructor() {
    this.symbols = {};
    this.others = "";
    this.largest = {};
  }

  /** All is told anew; `largest` are the largest positions in lots, by symbol, where there are some. */
  restart(largest) {
    this.largest = largest;
  }

  /** Take what the makers say now. */
  take({ symbols, others }) {
    this.symbols = symbols;
    this.others = others;
  }

  /**
   * Have each line that is looked at, or about to be painted, know its reason at a server time; empty where it is quoted on
   * both sides, or the reason is not known.
   */
  give(lines, chosen, now) {
    for (const line of lines.values()) {
      if (!line.visible && !line.dirty && line.symbol !== chosen) continue;
      const active = line.stateAt(now) === "active";
      line.reason = active ? this.#oneSided(line) : (this.symbols[line.symbol] ?? this.others);
      line.brief = active && line.reason ? BRIEF[line.row.quote.bid_quantity ? "bid" : "ask"] : "";
    }
  }

  #oneSided({ symbol, row: { quote, net_quantity: net } }) {
    if (quote.bid_quantity && quote.ask_quantity) return "";
    const side = quote.bid_quantity ? "bid" : "ask";
    const most = this.largest[symbol] ?? Infinity;
    if ((side === "ask" ? net : -net) >= most) return `at its largest position: ${BRIEF[side]}`;
    return `${BRIEF[side]}: the other has no price, or nothing left of the limit`;
  }
}
