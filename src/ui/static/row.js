/** One symbol's row in the table: its cells, and what each of them shows, so that only changes are written. */

import { hint, mark, Text } from "./dom.js";
import { age, left, money, shortMoney, signed, signOf, whole } from "./format.js";
import { OF_PROFIT, Spark } from "./spark.js";
import { linkTo } from "./view.js";

/** The parts of profit, in the order of `numbers`. */
export const PARTS = ["total", "realized", "unrealized", "fees"];

const FLASH = 600;
const FLASH_APART = 1500; // so that a busy row does not flicker

export const STATES = { never: "never", withdrawn: "withdrawn", expired: "expired", filled_away: "filled away", active: "active" };

const template = document.getElementById("row");
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * A bar that is drawn again only when its length changes visibly. It is a background, because transforms and clips would
 * make the browser keep a layer for each of a thousand bars.
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
    this.data = null;
    this.spark = new Spark();
    this.lastFlash = -Infinity;
    this.tint = ""; // the colour of the change that is flashing
    this.dirty = false;
    this.visible = false;
    this.reason = ""; // why it is not quoted, or on one side only; see Reasons
    this.brief = "";
    this.quotedAt = -Infinity; // when it was last quoted, by the server's time

    this.attached = false; // its node is in the table
    this.isChosen = false;
    this.built = null;
  }

  /** The table row. It is created when first needed, because most of thousands of symbols are never in sight. */
  get node() {
    if (!this.built) this.#build();
    return this.built;
  }

  #build() {
    this.built = template.content.firstElementChild.cloneNode(true);
    const { symbol } = this;
    this.node.row = this;
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

  /** Take new data; it is painted later. Times are converted to milliseconds once, here. */
  take(data, points, at) {
    const before = this.data;
    this.data = data;
    data.updatedAt = data.updated_at ? Date.parse(data.updated_at) : null;
    if (data.quote) {
      data.quote.activatedAt = Date.parse(data.quote.activated_at);
      data.quote.expiresAt = Date.parse(data.quote.expires_at);
    }
    this.#takeMoney(data);
    if (points) this.spark.restart(points, at);
    if (OF_PROFIT) this.#addProfit(at);
    else if (!points && (!before || before.position_version !== data.position_version)) {
      if (before && !this.spark.points.length) this.spark.points.push(before.net_quantity);
      this.spark.push(data.net_quantity, at);
    }
    this.dirty = true;
  }

  #addProfit(at) {
    const profit = (this.atQuote ?? this.atReference)?.numbers[0];
    const { points } = this.spark;
    if (profit === undefined) return;
    const shown = Math.round(profit * 100) / 100;
    if (shown !== points[points.length - 1]) this.spark.push(shown, at);
  }

  /** Show the row. `scale` is the net quantity that fills half a net bar. */
  paint(scale) {
    this.dirty = false;
    const { data } = this;
    const net = signed(data.net_quantity);
    if (net !== this.net.text) {
      if (this.net.text) this.#flash(data.net_quantity - this.shownNet);
      this.shownNet = data.net_quantity;
      mark(this.node, "sign", Math.sign(data.net_quantity));
    }
    this.net.set(net);
    this.scale(scale);
    this.spark.trace(this.path, this.dot, this.zero);

    this.version.set(whole(data.position_version));
    const behind = data.fills_recorded - data.position_version;
    this.behind.set(behind > 0 ? `+${whole(behind)}` : "");
    this.#paintFill(data.last_fill);
    this.#paintQuote(data.quote);
    this.#markLong();
  }

  /** Mark a row with texts that may be too long for their cells. Only these rows are clipped, because clipping is slow. */
  #markLong() {
    const { net, version, behind, bidLeft, bidOf, bid, ask, askLeft, askOf } = this;
    const cells = [[6, net], [8, version, behind], [7, bidLeft, bidOf], [8, bid], [8, ask], [7, askLeft, askOf]];
    const long = cells.some(([most, ...texts]) => texts.reduce((sum, { text }) => sum + text.length, 0) > most);
    if (long === this.shownLong) return;
    this.shownLong = long;
    this.node.classList.toggle("long", long);
  }

  /** Show the net bar at a new scale. */
  scale(scale) {
    this.netBar.set(Math.abs(this.data.net_quantity) / scale);
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

  /** True if the symbol is delisted and flat: nothing more will happen to it. */
  get ended() {
    return this.data.instrument === "delisted" && !this.data.net_quantity;
  }

  /** The quote's state at a server time. No frame says that an active quote has expired. */
  stateAt(now) {
    const { quote_state: state, quote } = this.data;
    return state === "active" && now >= quote.expiresAt ? "expired" : state;
  }

  /**
   * The profit at a server time: at the mid of the quote until it ends, else at the reference price. Null if the ledger
   * reports no money, or an open position has no mark.
   */
  profitAt(now) {
    const { quote, quote_state: state } = this.data;
    const lives = (state === "active" || state === "filled_away") && now < quote.expiresAt;
    return (lives && this.atQuote) || this.atReference;
  }

  /** Name the mark of a profit. */
  markedBy(profit) {
    return profit === this.atQuote ? "the mid of the quote" : "the reference price";
  }

  /** Describe the mark of the profit at a server time; empty if it needs none. */
  markAt(now) {
    const profit = this.profitAt(now);
    if (!profit?.mark) return "";
    return `${profit.mark}, ${this.markedBy(profit)}`;
  }

  /** Keep amounts as the exact texts received. `numbers`, in the order of PARTS, are for sums and sorting. */
  #takeMoney({ money: amounts, net_quantity: net }) {
    const at = (marked) => {
      const parts = { ...marked, realized: amounts.realized, fees: amounts.fees };
      return { ...parts, numbers: PARTS.map((part) => Number(parts[part])) };
    };
    const flat = amounts && !net ? at({ mark: "", unrealized: "0", total: amounts.realized }) : null;
    this.atQuote = amounts?.at_quote ? at(amounts.at_quote) : null;
    this.atReference = amounts?.at_reference ? at(amounts.at_reference) : flat;
  }

  #tickProfit(now) {
    const profit = this.profitAt(now);
    if (profit === this.shownProfit) return;
    this.shownProfit = profit;
    this.profit.set(profit ? shortMoney(profit.total) : "–");
    mark(this.profitCell, "sign", profit ? signOf(profit.total) : 0);
  }

  /** Mark the row as chosen or not. */
  choose(chosen) {
    this.isChosen = chosen;
    if (!this.built) return;
    this.node.classList.toggle("chosen", chosen);
    if (chosen) this.link.setAttribute("aria-current", "true");
    else this.link.removeAttribute("aria-current");
  }

  /** Show what changes with time: age, time to live, expiry. */
  tick(now) {
    const { data } = this;
    this.age.set(data.updatedAt === null ? "–" : age(now - data.updatedAt));
    this.#tickProfit(now);
    const state = this.stateAt(now);
    if (state !== this.shownState) {
      this.shownState = state;
      this.node.dataset.quote = state;
    }
    this.#showState(state);
    if (this.visible) this.#hint(now);
    if (state !== "active") {
      this.ttl.set("");
      this.ttlBar.set(0);
      return;
    }
    const remaining = data.quote.expiresAt - now;
    const share = Math.min(1, remaining / (data.quote.expiresAt - data.quote.activatedAt));
    this.ttl.set(left(remaining));
    this.ttlBar.set(share);
    // Quotes are refreshed after two thirds of their life; one that is much older will probably expire.
    const late = share < 0.25;
    if (late !== this.shownLate) {
      this.shownLate = late;
      this.ttlCell.classList.toggle("late", late);
    }
  }

  /** Show the state of an active quote, or else why there is none. */
  #showState(state) {
    const why = state === "active" ? "" : this.reason;
    this.state.set(this.brief || why || STATES[state]);
    if (Boolean(why) !== this.shownWhy) {
      this.shownWhy = Boolean(why);
      this.node.classList.toggle("why", this.shownWhy);
    }
  }

  /** Set the tooltips of the cells. */
  #hint(now) {
    const { data } = this;
    const profit = this.profitAt(now);
    if (profit !== this.hintedProfit) {
      this.hintedProfit = profit;
      const at = this.markAt(now);
      hint(this.profitCell, profit ? `${money(profit.total)}: realized ${money(profit.realized)}, unrealized ${money(profit.unrealized)}${at && ` at ${at}`}` : "Not known");
    }
    const { last_fill: fill } = data;
    if (fill) {
      const [verb, way] = fill.side === "buy" ? ["bought", "from us"] : ["sold", "to us"];
      hint(this.fillCell, `A client ${verb} ${whole(fill.quantity)} ${way} at ${fill.price}`);
    }
    hint(this.stateCell, [this.reason ? `${STATES[this.shownState]}: ${this.reason}` : "", data.quote?.quote_id ?? ""].filter(Boolean).join(" · "));
  }

  #flash(change) {
    const at = performance.now();
    if (!this.visible || calm.matches || at - this.lastFlash < FLASH_APART) return;
    this.lastFlash = at;
    this.tint = change > 0 ? "var(--long-tint)" : "var(--short-tint)";
    this.fade(at);
  }

  /** Fade the tint of a change by the page's time. An animation would repaint everything in every frame. */
  fade(at) {
    if (!this.tint) return;
    const left = Math.max(0, 1 - (at - this.lastFlash) / FLASH) ** 2;
    const tint = `color-mix(in srgb, ${this.tint} ${Math.round(left * 100)}%, transparent)`;
    this.netCell.style.backgroundImage = left ? `linear-gradient(${tint} 0 0)` : ""; // above the colour of the chosen row
    if (!left) this.tint = "";
  }
}
