/** Why a symbol is not quoted, or quoted on one side only: from its instrument, position and quote, or as makers report. */

const BRIEF = { bid: "bids only", ask: "asks only" };
const INSTRUMENT = { close_only: "close only", paused: "instrument paused", delisted: "instrument delisted" };

export class Reasons {
  constructor() {
    this.symbols = {};
    this.others = "";
  }

  /** Take the reports of the makers. */
  take({ symbols, others }) {
    this.symbols = symbols;
    this.others = others;
  }

  /**
   * Set the reasons of all rows that are in sight or about to be painted, at a server time. A reason is empty if the symbol
   * is quoted on both sides, or the reason is not known. `brief` is a shorter text for a cell, if the reason is too long.
   */
  update(rows, chosen, now) {
    for (const row of rows.values()) {
      if (!row.visible && !row.dirty && row.symbol !== chosen) continue;
      [row.reason, row.brief] = row.stateAt(now) === "active" ? quoted(row.data) : this.#unquoted(row);
    }
  }

  /** The state of the instrument comes first: makers learn of a change somewhat later. */
  #unquoted({ symbol, data }) {
    const instrument = INSTRUMENT[data.instrument];
    const why = this.symbols[symbol] ?? this.others;
    if (data.instrument !== "close_only") return [instrument ?? why, ""];
    if (!data.net_quantity) return [`${instrument}: no position`, ""];
    return why ? [`${instrument}: ${why}`, `${instrument}: not quoted`] : [instrument, ""];
  }
}

function quoted({ instrument: state, largest, quote, net_quantity: net }) {
  const instrument = INSTRUMENT[state];
  const side = quote.bid_quantity && quote.ask_quantity ? "" : quote.bid_quantity ? "bid" : "ask";
  if (state === "close_only" && side) return [`${instrument}: ${BRIEF[side]}`, `${instrument}: ${BRIEF[side]}`];
  if (instrument) return [`${instrument}: its quote was made before that`, instrument];
  if (!side) return ["", ""];
  if ((side === "ask" ? net : -net) >= (largest ?? Infinity)) return [`at its largest position: ${BRIEF[side]}`, BRIEF[side]];
  return [`${BRIEF[side]}: the other has no price, or nothing left of the limit`, BRIEF[side]];
}
