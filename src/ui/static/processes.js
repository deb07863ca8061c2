/** The strip of all processes: a small mark for each that is ready, and a text for each that is not. */

import { byId, hint, mark, put, Text } from "./dom.js";
import { age, clock, whole } from "./format.js";

export class Processes {
  constructor() {
    this.node = byId("processes");
    this.list = this.node.querySelector("ul");
    this.chips = new Map();
    this.all = 0; // the number of processes
    this.notReady = 0; // the number of those that are not ready
    this.summary = byId("processes-summary");
  }

  /** Take all processes. */
  take(processes) {
    const seen = new Map();
    const named = new Set();
    for (const process of processes) {
      process.sinceAt = Date.parse(process.since);
      let key = process.name;
      while (named.has(key)) key += "′"; // two of one name
      named.add(key);
      const chip = this.chips.get(key) ?? new Chip();
      chip.take(process);
      seen.set(key, chip);
    }
    this.chips = seen;
    const nodes = [...seen.values()].map((chip) => chip.node);
    if (nodes.length !== this.list.children.length || nodes.some((node, index) => node !== this.list.children[index])) {
      this.list.replaceChildren(...nodes);
    }
    const notReady = processes.filter((process) => process.state !== "ready").length;
    this.all = processes.length;
    this.notReady = notReady;
    put(this.summary, !processes.length ? "Looking for processes" : notReady ? `${notReady} of ${processes.length} not ready` : `All ${processes.length} ready`);
    mark(this.node, "healthy", processes.length > 0 && notReady === 0);
  }

  /** Update the times. */
  tick(now) {
    for (const chip of this.chips.values()) chip.tick(now);
  }
}

class Chip {
  constructor() {
    this.node = byId("process").content.firstElementChild.cloneNode(true);
    const text = (selector) => new Text(this.node.querySelector(selector));
    this.name = text(".name");
    this.status = text(".status");
    this.process = null;
  }

  take(process) {
    this.process = process;
    mark(this.node, "state", process.state === "ready" && process.behind > LAG ? "behind" : process.state);
    this.name.set(process.service === "nats" && !process.name.startsWith("nats") ? `nats ${process.name}` : process.name);
  }

  tick(now) {
    const { process } = this;
    this.status.set(statusOf(process, now));
    hint(this.node, describe(process));
  }
}

const LAG = 100; // messages; a shorter lag is normal in a burst

/** The text beside the name of a process, as short as possible if it is ready. */
function statusOf(process, now) {
  const ran = age(Math.max(0, now - process.sinceAt));
  const notes = [];
  if (process.state === "waiting") notes.push(waits(process));
  else if (process.state === "gone") return `no answer for ${ran}`;
  else if (process.state === "missing") return "does not answer";
  if (process.behind > LAG) notes.push(`${whole(process.behind)} behind`);
  if (process.quarantined) notes.push(`${whole(process.quarantined)} quarantined`);
  if (process.service === "nats") return notes.join(" · "); // its start is not known
  if (process.restarts) notes.push(`${ran === "now" ? "just" : ran} up, ${whole(process.restarts)} restart${process.restarts > 1 ? "s" : ""}`);
  return notes.length ? notes.join(" · ") : ran === "now" ? "just up" : ran;
}

function waits(process) {
  const parts = Object.keys(process.waiting_for);
  return parts.length ? `waits for ${parts.join(", ")}` : "waits";
}

function describe(process) {
  const since = clock(process.sinceAt);
  if (process.state === "missing") return `No ${process.service} has answered since ${since}`;
  if (process.state === "gone") return `${process.name} last answered at ${since}: it ended, or is paused or cut off`;
  const why = Object.entries(process.waiting_for).map(([part, reason]) => `waits for ${part}: ${reason}`);
  const behind = process.behind ? [`${whole(process.behind)} messages behind`] : [];
  const quarantined = process.quarantined ? [`${whole(process.quarantined)} messages quarantined`] : [];
  const runs = process.service === "nats" ? `NATS server ${process.name}` : `${process.name} runs since ${since}`;
  const again = process.restarts ? [`restarted ${process.restarts > 1 ? `${whole(process.restarts)} times` : "once"}`] : [];
  return [runs, ...again, ...why, ...behind, ...quarantined].join("; ");
}
