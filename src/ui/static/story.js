/** A quote's story, asked for when somebody wants to know: what the audit makes of the logs, on a line of time. */

import { byId, element, put } from "./dom.js";
import { clock, day, signed, whole } from "./format.js";

const PATIENCE = 15000; // milliseconds; the server gives up before

export class Story {
  /** @param {(quoteId: string) => void} onQuote another quote was chosen in it */
  constructor(onQuote) {
    this.onQuote = onQuote;
    this.node = byId("story");
    this.heading = byId("story-heading");
    this.told = byId("story-told");
    this.facts = byId("story-facts");
    this.events = byId("story-events");
    this.quoteId = "";
    this.asked = null;
  }

  /** Tell the story of a quote; put it away if there is none. The same one again is not asked for. */
  show(quoteId) {
    if (quoteId === this.quoteId) return;
    this.quoteId = quoteId;
    this.ask();
  }

  /** Ask, or ask again. */
  async ask() {
    this.asked?.abort();
    const { quoteId } = this;
    this.node.hidden = !quoteId;
    if (!quoteId) return;
    const asked = (this.asked = new AbortController());
    const patience = setTimeout(() => asked.abort(), PATIENCE);
    put(this.heading, quoteId);
    this.#tell("Reading the log …", true);
    this.facts.replaceChildren();
    this.events.replaceChildren();
    try {
      const answer = await fetch(`/explain/${encodeURIComponent(quoteId)}`, { signal: asked.signal });
      const body = await answer.json();
      if (asked !== this.asked) return;
      if (answer.ok) this.#show(body);
      else this.#tell(body.detail || body.title);
    } catch {
      if (asked === this.asked) this.#tell("No answer: it cannot be told now");
    } finally {
      clearTimeout(patience);
    }
  }

  #tell(text, busy = false) {
    put(this.told, text);
    this.node.setAttribute("aria-busy", busy);
  }

  #show(story) {
    const start = Date.parse(story.active_from?.stored_at ?? story.logs[0]?.time);
    this.#tell(start ? `${day(start)}, from ${clock(start)}` : "");
    this.facts.replaceChildren(...[...facts(story, (id) => this.#link(id))].flatMap(([label, ...told]) => [element("dt", "", label), element("dd", "", ...told)]));
    this.events.replaceChildren(...events(story).map((event) => line(event, start)));
  }

  #link(quoteId) {
    const button = element("button", "link", quoteId);
    button.type = "button";
    button.addEventListener("click", () => this.onQuote(quoteId));
    return button;
  }
}

/** What is known of it: a label and what is told, each. */
function* facts(story, link) {
  const { basis, recomputed, reservation, activated, end } = story;
  if (basis) {
    const net = basis.net_quantity === null ? "not known any more" : `${signed(basis.net_quantity)} lots`;
    const fill = basis.last_fill;
    yield ["Made from", `version ${whole(basis.position_version)}: ${net}`, ...(fill ? [`, after a ${fill.side} of ${fill.quantity} at ${fill.price}`] : [])];
  }
  yield ["Made by", makers(story)];
  if (recomputed) yield ["Proposal", recomputed.proposal ? sides(recomputed.proposal) : "none", `: ${recomputed.difference || "made again, the same to the byte"}`];
  if (reservation) {
    const why = reservation.reason ? ` by the ${reservation.reason.replaceAll("_", " ")}` : "";
    const [granted, asked] = ["granted", "asked"].map((kind) => `${reservation[`${kind}_bid_quantity`]}/${reservation[`${kind}_ask_quantity`]}`);
    yield ["Grant", `${reservation.outcome}${why}: ${granted} of ${asked} asked, bid/ask; ${reservation.state} now`];
  } else {
    yield ["Grant", "no longer kept; as logged, below"];
  }
  yield ["Active", activated ? sides(activated) : "never: the market log has no such quote"];
  if (activated) yield ["Fills", story.fills.length ? whole(story.fills.length) : "none"];
  if (end) {
    const lived = (Date.parse(end.at) - Date.parse(story.active_from.stored_at)) / 1000;
    const when = end.how === "still active" ? `, until ${clock(Date.parse(end.at))} at the latest` : `, after ${lived.toFixed(3)} s`;
    yield ["End", end.how, ...(end.by ? [" by ", link(end.by)] : []), when];
  }
}

/** Who put it, as the makers' own logs say: the market log does not. */
function makers(story) {
  const own = story.logs.filter((logged) => logged.process.startsWith("maker") && logged.fields.quote_id === undefined);
  const names = [...new Set(own.map((logged) => logged.process))];
  return names.length ? `${names.join(", ")}, as logged` : "not known: no maker’s log speaks of it";
}

/** Everything that happened, in the order of time. */
function events(story) {
  const found = story.logs.map((logged) => [logged.time, logged.process, [logged.event, ...fields(logged.fields)].join(" ")]);
  const { basis, active_from: from, activated, end } = story;
  if (basis?.last_fill) found.push([basis.last_fill.created_at, "fill", `${basis.last_fill.fill_id}, which it answers`]);
  if (from) found.push([from.stored_at, `${from.stream} #${from.sequence}`, "activated"]);
  for (const { where, fill, remaining_bid_quantity: bid, remaining_ask_quantity: ask } of story.fills) {
    found.push([where.stored_at, `${where.stream} #${where.sequence}`, `${fill.fill_id}: ${fill.side} ${fill.quantity} at ${fill.price}, leaves ${bid}/${ask}, order ${fill.order_id}`]);
  }
  if (end && end.how !== "still active") found.push([end.at, end.where ? `${end.where.stream} #${end.where.sequence}` : "", end.how]);
  if (activated && end?.how === "still active") found.push([activated.expires_at, "", "expires, at the latest"]);
  return found.sort(([one], [other]) => (one < other ? -1 : one > other ? 1 : 0));
}

function* fields(of) {
  for (const [name, value] of Object.entries(of)) yield `${name}=${value}`;
}

function line([time, who, what], start) {
  const offset = (Date.parse(time) - start) / 1000;
  const sign = offset < 0 ? "−" : "+";
  const node = element("li", "", element("time", "", `${sign}${Math.abs(offset).toFixed(3)} s`), element("span", "who", who), " ", what);
  node.title = time;
  return node;
}

function sides(quote) {
  const bid = quote.bid_quantity ? `${quote.bid_quantity} × ${quote.bid_price}` : "no bid";
  const ask = quote.ask_quantity ? `${quote.ask_price} × ${quote.ask_quantity}` : "no ask";
  return `${bid} / ${ask}`;
}
