/** The page: frames come in, rows and totals are shown once per animation frame, and whether they are to be believed. */

import { Blotter } from "./blotter.js";
import { age, clock, whole } from "./format.js";
import { Stream } from "./stream.js";
import { Totals } from "./totals.js";

const TICK = 100;
const CALM_TICK = 1000;
const REORDER = 1000;

const root = document.documentElement;
const byId = (id) => document.getElementById(id);
const [statusText, countdown, banner, count, empty, filter] = [
  "status-text", "status-countdown", "banner", "count", "empty", "filter",
].map(byId);
const calm = matchMedia("(prefers-reduced-motion: reduce)");

const totals = new Totals();
const blotter = new Blotter(byId("blotter"), byId("region"));
const url = new URL("/stream", location.href);
url.protocol = url.protocol.replace("http", "ws");
const stream = new Stream(url.href, take, told);

let status = null; // of the last frame
let frameTime = null; // the server's clock in the last frame
let lastTick = 0;
let lastReorder = 0;
let scheduled = false;
let changed = false;
let everLive = false;

function take(frame) {
  status = frame.status;
  frameTime = Date.parse(frame.time);
  const snapshot = frame.type === "snapshot";
  if (snapshot) totals.restart();
  if (snapshot || frame.type === "update") {
    blotter.take(frame.rows, snapshot ? frame.history : null, performance.now());
    everLive = true;
    changed = true;
  }
  schedule();
}

function told() {
  tellState();
  schedule();
}

function schedule() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(render);
}

/** While the connection is down the page's time stands still: what it shows is how things were. */
function now() {
  return stream.phase === "live" || frameTime === null ? stream.now() : frameTime;
}

function render() {
  scheduled = false;
  const time = now();
  const at = performance.now();
  blotter.paint(time);
  if (changed) {
    totals.count(blotter.lines, at);
    changed = false;
  }
  if (at - lastTick >= (calm.matches ? CALM_TICK : TICK)) {
    lastTick = at;
    blotter.tick(time);
  }
  if (at - lastReorder >= REORDER) {
    lastReorder = at;
    if (blotter.sort.key !== "symbol") blotter.unordered = true;
    if (everLive) totals.count(blotter.lines, at);
  }
  if (status) totals.expose(status.usage, status.exposure.detail);
  tellState();
  tellCount();
}

/** Live, partly live, stale or down: the pill says it in a word, the banner says what is being looked at. */
function tellState() {
  const stale = status ? ["positions", "market"].filter((name) => !status[name].current) : [];
  let [state, text, after, warning] = ["live", "Live", "", ""];
  if (stream.phase !== "live") {
    state = everLive ? "down" : "connecting";
    text = everLive ? "Reconnecting" : "Connecting";
    if (stream.phase === "waiting") {
      const seconds = Math.max(1, Math.ceil((stream.retryAt - performance.now()) / 1000));
      after = ` in ${seconds} s`;
    }
    if (everLive) warning = `No connection: this is how things were at ${clock(frameTime)}, ${age(stream.now() - frameTime)} ago`;
  } else if (stale.length) {
    state = "stale";
    text = `Stale: ${stale.join(", ")}`;
    const sources = stale.map((name) => `${name} since ${clock(Date.parse(status[name].since))} (${status[name].detail})`);
    warning = `Not current: ${sources.join("; ")}`;
  } else if (!everLive) {
    [state, text] = ["connecting", "Connecting"];
  } else if (!status.usage) {
    [state, text] = ["partial", "Live, exposure unknown"];
  }
  if (root.dataset.state !== state) root.dataset.state = state;
  put(statusText, text);
  put(countdown, after);
  put(banner, warning);
  banner.hidden = !warning;
  document.title = state === "down" || state === "stale" ? `${text} – Quotestream` : "Quotestream";
}

function tellCount() {
  const all = blotter.lines.size;
  put(count, !all ? "" : blotter.filter ? `${whole(blotter.shown)} of ${whole(all)} symbols` : `${whole(all)} symbols`);
  put(empty, everLive ? (all ? "No symbol matches the filter" : "No symbols") : "Waiting for the first positions");
  empty.hidden = blotter.shown > 0;
}

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

blotter.onSight = schedule;
filter.addEventListener("input", () => {
  blotter.filterBy(filter.value);
  schedule();
});
addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== filter && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    filter.focus();
    filter.select();
  } else if (event.key === "Escape" && document.activeElement === filter) {
    filter.value = "";
    blotter.filterBy("");
    filter.blur();
    schedule();
  }
});
setInterval(() => document.hidden || schedule(), TICK);
