/** One symbol's row in the table: its cells, and what each last showed, so that only what changed is touched. */

import { hint, mark, Text } from "./dom.js";
import { age, left, money, shortMoney, signed, signOf, whole } from "./format.js";
import { OF_PROFIT, Spark } from "./spark.js";
import { linkTo } from "./view.js";

/** The parts of profit, in the order of the numbers that rows are added up by. */
export const PARTS = ["total", "realized", "unrealized", "fees"];

const FLASH = 600;
const FLASH_APART = 1500; // a busy row does not flicker

export const STATES = { never: "never", withdrawn: "withdrawn", expired: "expired", filled_away: "filled away", active: "active" };

const template = document.getElementById("row");
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * A bar that is drawn anew only when its length changes by what can be seen. It is a background: transforms and clips
 * would make the browser keep a node of its own for each of a thousand bars.
 */
class Bar {
  constructor(element) {
    this.style = element.style;
    this.value = null;
  }

  set(value) {
    const rounded = Math.round(value * 200) / 2;
    if (rounded === this.value) return;
    this.value = rounded;
    this.style.backgroundSize = `${rounded}% 100%`;
  }
}

export class Row {
  constructor(symbol) {
    this.symbol = symbol;
    this.search = symbol.toLowerCase();
    this.row = null;
    this.spark = new Spark();
    this.lastFlash = -Infinity;
    this.tint = ""; // of the change that is shown
    this.dirty = false;
    this.visible = false;
    this.reason = ""; // why it is not quoted, or on one side only; see Reasons
    this.brief = "";
    this.quotedAt = -Infinity; // when it was last seen to be quoted, by the server's time

    this.laid = false; // its row is on the table
    this.isChosen = false;
    this.built = null;
  }

  /** Its row, which is made when it is first needed: of thousands of symbols most are never looked at. */
  get node() {
    if (!this.built) this.#build();
    return this.built;
  }

  #build() {
    this.built = template.content.firstElementChild.cloneNode(true);
    const { symbol } = this;
    this.node.line = this;
    this.node.dataset.symbol = symbol;
    const find = (selector) => this.node.querySelector(selector);
    const text = (selector) => new Text(find(selector));
    this.link = find(".symbol a");
    this.link.textContent = symbol;
    this.link.title = symbol;
    this.link.href = linkTo(symbol);
    this.netCell = find(".net");
    this.net = text(".net .value");
    this.netBar = new Bar(find(".net i"));
    this.zero = find(".zero");
    this.path = find(".line");
    this.dot = find("circle");
    this.version = text(".version .value");
    this.behind = text(".version .behind");
    this.fillCell = find(".fill");
    this.side = text(".fill .side");
    this.fill = text(".fill .value");
    this.age = text(".age");
    this.profitCell = find(".profit");
    this.profit = text(".profit");
    this.bidLeft = text(".quantity:not(.ask) .left");
    this.bidOf = text(".quantity:not(.ask) .of");
    this.bid = text(".price.bid");
    this.ask = text(".price.ask");
    this.askLeft = text(".quantity.ask .left");
    this.askOf = text(".quantity.ask .of");
    this.ttlCell = find(".ttl");
    this.ttl = text(".ttl .value");
    this.ttlBar = new Bar(find(".ttl i"));
    this.stateCell = find(".state");
    this.state = text(".state span");
    this.dirty = this.spark.changed = true;
    if (this.isChosen) this.choose(true);
  }

  /** Take a new row; it is painted later. Times are turned into milliseconds once, here. */
  take(row, points, at) {
    const before = this.row;
    this.row = row;
    row.updatedAt = row.updated_at ? Date.parse(row.updated_at) : null;
    if (row.quote) {
      row.quote.activatedAt = Date.parse(row.quote.activated_at);
      row.quote.expiresAt = Date.parse(row.quote.expires_at);
    }
    this.#takeMoney(row);
    if (points) this.spark.restart(points, at);
    if (OF_PROFIT) this.#rememberProfit(at);
    else if (!points && (!before || before.position_version !== row.position_version)) {
      if (before && !this.spark.points.length) this.spark.points.push(before.net_quantity);
      this.spark.push(row.net_quantity, at);
    }
    this.dirty = true;
  }

  #rememberProfit(at) {
    const profit = (this.atQuote ?? this.atReference)?.numbers[0];
    const { points } = this.spark;
    if (profit === undefined) return;
    const shown = Math.round(profit * 100) / 100;
    if (shown !== points[points.length - 1]) this.spark.push(shown, at);
  }

  /** Show the row. `scale` is the net quantity that fills half a net bar. */
  paint(scale) {
    this.dirty = false;
    const { row } = this;
    const net = signed(row.net_quantity);
    if (net !== this.net.text) {
      if (this.net.text) this.#flash(row.net_quantity - this.shownNet);
      this.shownNet = row.net_quantity;
      mark(this.node, "sign", Math.sign(row.net_quantity));
    }
    this.net.set(net);
    this.scale(scale);
    this.spark.trace(this.path, this.dot, this.zero);

    this.version.set(whole(row.position_version));
    const behind = row.fills_recorded - row.position_version;
    this.behind.set(behind > 0 ? `+${whole(behind)}` : "");
    this.#paintFill(row.last_fill);
    this.#paintQuote(row.quote);
    this.#tellLong();
  }

  /** Numbers that may be too long for their cells are cut; cutting all would cost the browser more than all else in the row. */
  #tellLong() {
    const { net, version, behind, bidLeft, bidOf, bid, ask, askLeft, askOf } = this;
    const cells = [[6, net], [8, version, behind], [7, bidLeft, bidOf], [8, bid], [8, ask], [7, askLeft, askOf]];
    const long = cells.some(([most, ...texts]) => texts.reduce((sum, { text }) => sum + text.length, 0) > most);
    if (long === this.shownLong) return;
    this.shownLong = long;
    this.node.classList.toggle("long", long);
  }

  /** Show the net bar by a new scale. */
  scale(scale) {
    this.netBar.set(Math.abs(this.row.net_quantity) / scale);
  }

  #paintFill(fill) {
    this.side.set(fill ? fill.side : "");
    this.fill.set(fill ? `${whole(fill.quantity)} @ ${fill.price}` : "–");
  }

  #paintQuote(quote) {
    this.bidLeft.set(quote?.bid_quantity ? whole(quote.bid_remaining) : "–");
    this.bidOf.set(quote?.bid_quantity ? `/${whole(quote.bid_quantity)}` : "");
    this.bid.set(quote?.bid_quantity ? quote.bid_price : "–");
    this.ask.set(quote?.ask_quantity ? quote.ask_price : "–");
    this.askLeft.set(quote?.ask_quantity ? whole(quote.ask_remaining) : "–");
    this.askOf.set(quote?.ask_quantity ? `/${whole(quote.ask_quantity)}` : "");
  }

  /** Whether it is delisted and has no position: nothing will happen to it. */
  get over() {
    return this.row.instrument === "delisted" && !this.row.net_quantity;
  }

  /** The quote's state at a server time: an active quote expires without anybody saying so. */
  stateAt(now) {
    const { quote_state: state, quote } = this.row;
    return state === "active" && now >= quote.expiresAt ? "expired" : state;
  }

  /**
   * The profit at a server time: at the mid of the quote until that ends, else at the reference price. Null if the
   * ledger tells no money, or nothing says what an open position is worth.
   */
  profitAt(now) {
    const { quote, quote_state: state } = this.row;
    const lives = (state === "active" || state === "filled_away") && now < quote.expiresAt;
    return (lives && this.atQuote) || this.atReference;
  }

  /** Whose mark a profit is at. */
  markedBy(profit) {
    return profit === this.atQuote ? "the mid of the quote" : "the reference price";
  }

  /** Which mark that is, for a person; empty if it needs none. */
  markAt(now) {
    const profit = this.profitAt(now);
    if (!profit?.mark) return "";
    return `${profit.mark}, ${this.markedBy(profit)}`;
  }

  /** Amounts stay the exact texts that they came as; `numbers`, in the order of PARTS, are for adding and sorting. */
  #takeMoney({ money: told, net_quantity: net }) {
    const at = (marked) => {
      const parts = { ...marked, realized: told.realized, fees: told.fees };
      return { ...parts, numbers: PARTS.map((part) => Number(parts[part])) };
    };
    const flat = told && !net ? at({ mark: "", unrealized: "0", total: told.realized }) : null;
    this.atQuote = told?.at_quote ? at(told.at_quote) : null;
    this.atReference = told?.at_reference ? at(told.at_reference) : flat;
  }

  #tickProfit(now) {
    const profit = this.profitAt(now);
    if (profit === this.shownProfit) return;
    this.shownProfit = profit;
    this.profit.set(profit ? shortMoney(profit.total) : "–");
    mark(this.profitCell, "sign", profit ? signOf(profit.total) : 0);
  }

  /** Mark it as the one that was chosen, or no more. */
  choose(chosen) {
    this.isChosen = chosen;
    if (!this.built) return;
    this.node.classList.toggle("chosen", chosen);
    if (chosen) this.link.setAttribute("aria-current", "true");
    else this.link.removeAttribute("aria-current");
  }

  /** Show what runs with time: age, time to live, expiry. */
  tick(now) {
    const { row } = this;
    this.age.set(row.updatedAt === null ? "–" : age(now - row.updatedAt));
    this.#tickProfit(now);
    const state = this.stateAt(now);
    if (state !== this.shownState) {
      this.shownState = state;
      this.node.dataset.quote = state;
    }
    this.#tellState(state);
    if (this.visible) this.#hint(now);
    if (state !== "active") {
      this.ttl.set("");
      this.ttlBar.set(0);
      return;
    }
    const remaining = row.quote.expiresAt - now;
    const share = Math.min(1, remaining / (row.quote.expiresAt - row.quote.activatedAt));
    this.ttl.set(left(remaining));
    this.ttlBar.set(share);
    // Quotes are refreshed at two thirds of their life: one that is well past it will probably expire.
    const late = share < 0.25;
    if (late !== this.shownLate) {
      this.shownLate = late;
      this.ttlCell.classList.toggle("late", late);
    }
  }

  /** A quote that is there is named by its state; of one that is not there, why is said. */
  #tellState(state) {
    const why = state === "active" ? "" : this.reason;
    this.state.set(this.brief || why || STATES[state]);
    if (Boolean(why) !== this.shownWhy) {
      this.shownWhy = Boolean(why);
      this.node.classList.toggle("why", this.shownWhy);
    }
  }

  /** Have its cells say more when the pointer rests on them, which it only does on a row in sight. */
  #hint(now) {
    const { row } = this;
    const profit = this.profitAt(now);
    if (profit !== this.hintedProfit) {
      this.hintedProfit = profit;
      const at = this.markAt(now);
      hint(this.profitCell, profit ? `${money(profit.total)}: realized ${money(profit.realized)}, unrealized ${money(profit.unrealized)}${at && ` at ${at}`}` : "Not known");
    }
    const { last_fill: fill } = row;
    if (fill) {
      const [verb, way] = fill.side === "buy" ? ["bought", "from us"] : ["sold", "to us"];
      hint(this.fillCell, `A client ${verb} ${whole(fill.quantity)} ${way} at ${fill.price}`);
    }
    hint(this.stateCell, [this.reason ? `${STATES[this.shownState]}: ${this.reason}` : "", row.quote?.quote_id ?? ""].filter(Boolean).join(" · "));
  }

  #flash(change) {
    const at = performance.now();
    if (!this.visible || calm.matches || at - this.lastFlash < FLASH_APART) return;
    this.lastFlash = at;
    this.tint = change > 0 ? "var(--long-tint)" : "var(--short-tint)";
    this.fade(at);
  }

  /** Have the tint of a change as strong as it is to be by the page's time. An animation would have all painted in every frame. */
  fade(at) {
    if (!this.tint) return;
    const left = Math.max(0, 1 - (at - this.lastFlash) / FLASH) ** 2;
    const tint = `color-mix(in srgb, ${this.tint} ${Math.round(left * 100)}%, transparent)`;
    this.netCell.style.backgroundImage = left ? `linear-gradient(${tint} 0 0)` : ""; // over the colour of the chosen row
    if (!left) this.tint = "";
  }
}
