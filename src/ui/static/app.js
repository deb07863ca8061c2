/**
 * The page: frames come in, rows and totals are shown, and whether they are to be believed.
 *
 * What comes is shown with the next picture that is APART from the last one; what a reader does, with the next picture of
 * the screen. Within a picture the document is read first, and then written.
 */

import { Alarm } from "./alarm.js";
import { Blotter } from "./blotter.js";
import { Columns } from "./columns.js";
import { copy, csv } from "./csv.js";
import { Detail } from "./detail.js";
import { byId, mark, put, reveal } from "./dom.js";
import { Fills } from "./fills.js";
import { age, clock, whole } from "./format.js";
import { Help } from "./help.js";
import { Past } from "./past.js";
import { Processes } from "./processes.js";
import { Reasons } from "./reasons.js";
import { Rejected } from "./rejected.js";
import { Run } from "./run.js";
import { OF_PROFIT } from "./spark.js";
import { Story } from "./story.js";
import { Stream } from "./stream.js";
import { KillSwitch } from "./switch.js";
import { Totals } from "./totals.js";
import { Trend } from "./trend.js";
import { View } from "./view.js";
import { Well } from "./well.js";

const TICK = 100;
const APART = 40; // milliseconds between two pictures, at least: a screen of 60 a second has 20 of them, as many as frames come
const CALM_TICK = 1000;
const REORDER = 1000;
const PREVIEW = 200; // pixels below the table for which a chart is worth it
const SIDE = 250; // milliseconds between two pictures of the fills beside the table

const root = document.documentElement;
const [statusText, countdown, banner, count, empty, filter] = [
  "status-text", "status-countdown", "banner", "count", "empty", "filter",
].map(byId);
const calm = matchMedia("(prefers-reduced-motion: reduce)");

const alarm = new Alarm();
const totals = new Totals();
const past = new Past((quote) => view.set({ quote }));
const trend = new Trend((seconds) => past.window(seconds));
const view = new View(follow);
const blotter = new Blotter(byId("blotter"), byId("region"), view);
const detail = new Detail();
const reasons = new Reasons();
const processes = new Processes();
const rejected = new Rejected();
const run = new Run();
const killSwitch = new KillSwitch();
const well = new Well();
const help = new Help();
new Columns();
const story = new Story((quote) => view.set({ quote }));
const fills = new Fills((symbol) => view.set({ symbol }), (quote, symbol) => view.set({ quote, symbol }));
const url = new URL("/stream", location.href);
url.protocol = url.protocol.replace("http", "ws");
const stream = new Stream(url.href, take, told);

let status = null; // of the last frame
let frameTime = null; // the server's clock in the last frame
let lastTick = 0;
let lastReorder = 0;
let lastSide = 0;
let lastPicture = 0;
let scheduled = false; // for the next picture of the screen
let waiting = 0; // for a later one: the timer
let changed = false;
let pastChanged = false; // something of the chosen symbol
let everLive = false;
let liveliest = null; // the symbol whose chart is shown while none is chosen; empty if there is no room for it

function take(frame) {
  status = frame.status;
  frameTime = Date.parse(frame.time);
  const snapshot = frame.type === "snapshot";
  if (snapshot) totals.restart();
  trend.take(frame);
  if (snapshot || frame.type === "update") {
    blotter.take(frame.rows, snapshot ? (OF_PROFIT ? frame.profits : frame.history) : null, performance.now());
    if (frame.unquoted) reasons.take(frame.unquoted);
    if (frame.answered) rejected.take(frame.answered);
    if (frame.notices) run.take(frame.notices);
    if (frame.processes) processes.take(frame.processes);
    fills.take(frame.fills, snapshot);
    if (snapshot) past.restart();
    everLive = true;
    changed = true;
    pastChanged ||= snapshot || frame.rows.some((row) => row.symbol === past.symbol);
  }
  schedule();
}

function told() {
  tellState();
  schedule();
}

/** Show what the view has become. */
function follow() {
  if (filter.value !== view.filter) filter.value = view.filter;
  blotter.follow();
  fills.choose(view.symbol);
  past.choose(view.symbol || liveliest || "");
  story.show(view.quote);
  lastSide = 0;
  hurry();
}

/** Show what has come, soon. */
function schedule() {
  if (scheduled || waiting) return;
  const rest = lastPicture + APART - performance.now();
  if (rest <= 0) hurry();
  else waiting = setTimeout(hurry, rest);
}

/** Show it with the next picture of the screen. */
function hurry() {
  clearTimeout(waiting);
  waiting = 0;
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(render);
}

/** Where a short table leaves the window empty below it, have the chart there of the symbol that has traded most. */
function preview() {
  liveliest = "";
  if (view.symbol || !run.node.hidden || !blotter.leavesRoom(PREVIEW)) return;
  let most = 0;
  for (const { symbol, row } of blotter.lines.values()) {
    if (row.position_version > most) [most, liveliest] = [row.position_version, symbol];
  }
  past.choose(liveliest);
}

/** While the connection is down the page's time stands still: what it shows is how things were. */
function now() {
  return stream.phase === "live" || frameTime === null ? stream.now() : frameTime;
}

function render() {
  scheduled = false;
  const time = now();
  const at = performance.now();
  lastPicture = at;
  blotter.look();
  const ticks = at - lastTick >= (calm.matches ? CALM_TICK : TICK);
  drawCharts(time, ticks);
  blotter.paint(time);
  if (changed) {
    totals.count(blotter.lines, at, time);
    changed = false;
  }
  if (ticks) {
    lastTick = at;
    reasons.give(blotter.lines, view.symbol, time);
    blotter.tick(time, at);
    processes.tick(time);
    run.tick(time);
  }
  if (at - lastReorder >= REORDER) {
    lastReorder = at;
    if (blotter.sort.key !== "symbol") blotter.unordered = true;
    if (everLive) totals.count(blotter.lines, at, time);
    tellWell(time);
  }
  if (at - lastSide >= (calm.matches ? CALM_TICK : SIDE)) {
    lastSide = at;
    fills.paint();
  }
  if (liveliest === null && everLive) preview();
  detail.show(everLive ? view.symbol : "", blotter.lines.get(view.symbol), time);
  if (status) killSwitch.show(status.switch, time);
  if (status) totals.expose(status.usage, status.exposure.detail);
  tellState();
  tellCount();
}

/** Before anything is written: a text on a canvas has the browser work out every style that has changed until then. */
function drawCharts(time, ticks) {
  if (pastChanged || !past.followed) past.follow(blotter.lines.get(past.symbol), fills.of(past.symbol), time);
  pastChanged = false;
  past.tick(time);
  if (ticks) for (const chart of [...trend.charts, past.chart]) chart.mark(run.marks(time));
  trend.paint();
  past.paint();
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
  mark(root, "state", state);
  put(statusText, text);
  put(countdown, after);
  put(banner, warning);
  reveal(banner, Boolean(warning));
  const troubles = state === "down" || state === "stale" ? [text] : [];
  if (stream.phase === "live") {
    if (status?.switch?.paused) troubles.push("Paused");
    if (processes.unwell) troubles.push(`${processes.unwell} not ready`);
  }
  alarm.tell(troubles);
}

/** Whether all is well; nothing while that is not known. */
function tellWell(time) {
  if (stream.phase !== "live" || !everLive || !processes.all) {
    well.clear();
    return;
  }
  const troubles = ["positions", "market"].filter((name) => !status[name].current).map((name) => `${name} not current`);
  if (!status.usage) troubles.push("exposure not known");
  const paused = Boolean(status.switch?.paused);
  if (paused) troubles.push("paused by the kill switch");
  well.show(blotter.lines, processes, troubles, paused, time);
}

function tellCount() {
  const all = blotter.lines.size;
  put(count, !all ? "" : blotter.shown < all || blotter.filter ? `${whole(blotter.shown)} of ${whole(all)} symbols` : `${whole(all)} symbols`);
  put(empty, everLive ? (all ? "No symbol matches the filter" : "No symbols") : "Waiting for the first positions");
  reveal(empty, blotter.shown === 0);
}

function explain() {
  const quote = blotter.lines.get(view.symbol)?.row.quote?.quote_id;
  if (quote && quote === view.quote) story.ask();
  else if (quote) view.set({ quote });
}

const copied = byId("copy").firstElementChild;
const COPY = copied.textContent;
const TOLD_FOR = 1500; // milliseconds

async function copyRow() {
  const line = blotter.lines.get(view.symbol);
  if (!line) return;
  put(copied, (await copy(csv(line, now()))) ? "Copied" : "Not copied: the browser does not allow it");
  setTimeout(() => put(copied, COPY), TOLD_FOR);
}

const KEYS = {
  "/": () => {
    filter.focus();
    filter.select();
  },
  ArrowDown: () => blotter.step(1),
  ArrowUp: () => blotter.step(-1),
  j: () => blotter.step(1),
  k: () => blotter.step(-1),
  e: explain,
  c: copyRow,
  "?": () => help.open(),
  Escape: () => view.set(view.quote ? { quote: "" } : { symbol: "" }),
};

blotter.onSight = hurry;
for (const chart of [...trend.charts, past.chart]) chart.onWish = hurry;
filter.addEventListener("input", () => view.set({ filter: filter.value }));
byId("explain").addEventListener("click", explain);
byId("copy").addEventListener("click", copyRow);
byId("detail-close").addEventListener("click", () => view.set({ symbol: "", quote: "" }));
byId("story-close").addEventListener("click", () => view.set({ quote: "" }));
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || help.isOpen) return;
  if (document.activeElement === filter) {
    if (event.key !== "Escape") return;
    view.set({ filter: "" });
    filter.blur();
  } else if (Object.hasOwn(KEYS, event.key)) {
    event.preventDefault();
    KEYS[event.key]();
  }
});
setInterval(() => document.hidden || schedule(), TICK);
follow();
