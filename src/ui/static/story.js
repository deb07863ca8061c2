/** A quote's story from the logs, loaded on request: facts about it, and its events over time. */

import { byId, element, put } from "./dom.js";
import { clock, day, signed, whole } from "./format.js";

const TIMEOUT = 15000; // milliseconds; longer than the server's timeout

export class Story {
  /** @param {(quoteId: string) => void} onQuote called when another quote is chosen in it */
  constructor(onQuote) {
    this.onQuote = onQuote;
    this.node = byId("story");
    this.heading = byId("story-heading");
    this.status = byId("story-status");
    this.facts = byId("story-facts");
    this.events = byId("story-events");
    this.quoteId = "";
    this.request = null;
  }

  /** Show the story of a quote; hide it if `quoteId` is empty. The same story is not loaded again. */
  show(quoteId) {
    if (quoteId === this.quoteId) return;
    this.quoteId = quoteId;
    this.load();
  }

  /** Load the story, or load it again. */
  async load() {
    this.request?.abort();
    const { quoteId } = this;
    this.node.hidden = !quoteId;
    if (!quoteId) return;
    const request = (this.request = new AbortController());
    const timeout = setTimeout(() => request.abort(), TIMEOUT);
    put(this.heading, quoteId);
    this.#setStatus("Reading the log …", true);
    this.facts.replaceChildren();
    this.events.replaceChildren();
    try {
      const response = await fetch(`/explain/${encodeURIComponent(quoteId)}`, { signal: request.signal });
      const body = await response.json();
      if (request !== this.request) return;
      if (response.ok) this.#show(body);
      else this.#setStatus(body.detail || body.title);
    } catch {
      if (request === this.request) this.#setStatus("The story cannot be loaded now");
    } finally {
      clearTimeout(timeout);
    }
  }

  #setStatus(text, busy = false) {
    put(this.status, text);
    this.node.setAttribute("aria-busy", busy);
  }

  #show(story) {
    const start = Date.parse(story.active_from?.stored_at ?? story.logs[0]?.time);
    this.#setStatus(start ? `${day(start)}, from ${clock(start)}` : "");
    this.facts.replaceChildren(...[...facts(story, (id) => this.#link(id))].flatMap(([label, ...parts]) => [element("dt", "", label), element("dd", "", ...parts)]));
    this.events.replaceChildren(...events(story).map((event) => item(event, start)));
  }

  #link(quoteId) {
    const button = element("button", "link", quoteId);
    button.type = "button";
    button.addEventListener("click", () => this.onQuote(quoteId));
    return button;
  }
}

/** Yield the known facts: a label, and the parts of a text, each. */
function* facts(story, link) {
  const { basis, recomputed, reservation, activated, end } = story;
  if (basis) {
    const net = basis.net_quantity === null ? "no longer known" : `${signed(basis.net_quantity)} lots`;
    const fill = basis.last_fill;
    yield ["Made from", `version ${whole(basis.position_version)}: ${net}`, ...(fill ? [`, after a ${fill.side} of ${fill.quantity} at ${fill.price}`] : [])];
  }
  yield ["Made by", makers(story)];
  if (recomputed) yield ["Proposal", recomputed.proposal ? sides(recomputed.proposal) : "none", `: ${recomputed.difference || "recomputed, the same byte for byte"}`];
  if (reservation) {
    const why = reservation.reason ? ` by the ${reservation.reason.replaceAll("_", " ")}` : "";
    const [granted, asked] = ["granted", "asked"].map((kind) => `${reservation[`${kind}_bid_quantity`]}/${reservation[`${kind}_ask_quantity`]}`);
    yield ["Grant", `${reservation.outcome}${why}: ${granted} of ${asked} asked, bid/ask; ${reservation.state} now`];
  } else {
    yield ["Grant", "no longer kept; see the logs below"];
  }
  yield ["Active", activated ? sides(activated) : "never: the market log has no such quote"];
  if (activated) yield ["Fills", story.fills.length ? whole(story.fills.length) : "none"];
  if (end) {
    const lived = (Date.parse(end.at) - Date.parse(story.active_from.stored_at)) / 1000;
    const when = end.how === "still active" ? `, until ${clock(Date.parse(end.at))} at the latest` : `, after ${lived.toFixed(3)} s`;
    yield ["End", end.how, ...(end.by ? [" by ", link(end.by)] : []), when];
  }
}

/** The makers that put the quote, from their own logs: the market log does not contain them. */
function makers(story) {
  const own = story.logs.filter((logged) => logged.process.startsWith("maker") && logged.fields.quote_id === undefined);
  const names = [...new Set(own.map((logged) => logged.process))];
  return names.length ? `${names.join(", ")}, as logged` : "not known: no maker’s log mentions it";
}

/** Return all events, in order of time. */
function events(story) {
  const found = story.logs.map((logged) => [logged.time, logged.process, [logged.event, ...fields(logged.fields)].join(" ")]);
  const { basis, active_from: from, activated, end } = story;
  if (basis?.last_fill) found.push([basis.last_fill.created_at, "fill", `${basis.last_fill.fill_id}, after which it was made`]);
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

function item([time, who, what], start) {
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
