/** Why a symbol is not quoted, or on one side only: as its instrument, its position and its quote show, or as the makers say. */

const BRIEF = { bid: "bids only", ask: "asks only" };
const INSTRUMENT = { close_only: "close only", paused: "instrument paused", delisted: "instrument delisted" };

export class Reasons {
  constructor() {
    this.symbols = {};
    this.others = "";
  }

  /** Take what the makers say now. */
  take({ symbols, others }) {
    this.symbols = symbols;
    this.others = others;
  }

  /**
   * Have each line that is looked at, or about to be painted, know its reason at a server time; empty where it is quoted on
   * both sides, or the reason is not known. Its `brief` is for a cell, where the reason is too long for one.
   */
  give(lines, chosen, now) {
    for (const line of lines.values()) {
      if (!line.visible && !line.dirty && line.symbol !== chosen) continue;
      [line.reason, line.brief] = line.stateAt(now) === "active" ? quoted(line.row) : this.#unquoted(line);
    }
  }

  /** A maker hears of a change somewhat later: what it says of a symbol that nobody may quote does not count. */
  #unquoted({ symbol, row }) {
    const instrument = INSTRUMENT[row.instrument];
    const why = this.symbols[symbol] ?? this.others;
    if (row.instrument !== "close_only") return [instrument ?? why, ""];
    if (!row.net_quantity) return [`${instrument}: no position`, ""];
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
