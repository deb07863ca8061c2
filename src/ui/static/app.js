/**
 * The page: it receives frames, and shows rows, totals, and whether they are current.
 *
 * New data is shown at most once per FRAME_INTERVAL; the effect of a reader's action, in the next animation frame. In an
 * animation frame, the layout of the document is read first, and then written.
 */

import { Alarm } from "./alarm.js";
import { Blotter } from "./blotter.js";
import { Columns } from "./columns.js";
import { copy, csv } from "./csv.js";
import { Detail } from "./detail.js";
import { byId, mark, put, reveal } from "./dom.js";
import { Fills } from "./fills.js";
import { age, clock, whole } from "./format.js";
import { HealthSummary } from "./health_summary.js";
import { Help } from "./help.js";
import { Processes } from "./processes.js";
import { Reasons } from "./reasons.js";
import { Rejected } from "./rejected.js";
import { Run } from "./run.js";
import { OF_PROFIT } from "./spark.js";
import { Story } from "./story.js";
import { Stream } from "./stream.js";
import { SymbolChart } from "./symbol_chart.js";
import { KillSwitch } from "./switch.js";
import { Totals } from "./totals.js";
import { Trend } from "./trend.js";
import { View } from "./view.js";

const TICK = 100;
const FRAME_INTERVAL = 40; // minimum milliseconds between two updates: at 60 Hz that makes 20 per second, as many as frames
const CALM_TICK = 1000;
const REORDER_INTERVAL = 1000;
const CHART_ROOM = 200; // minimum pixels below the table for a chart
const SIDE_INTERVAL = 250; // milliseconds between two updates of the fills beside the table

const root = document.documentElement;
const [statusText, countdown, banner, count, empty, filter] = [
  "status-text", "status-countdown", "banner", "count", "empty", "filter",
].map(byId);
const calm = matchMedia("(prefers-reduced-motion: reduce)");

const alarm = new Alarm();
const totals = new Totals();
const symbolChart = new SymbolChart((quote) => view.set({ quote }));
const trend = new Trend((seconds) => symbolChart.window(seconds));
const view = new View(follow);
const blotter = new Blotter(byId("blotter"), byId("region"), view);
const detail = new Detail();
const reasons = new Reasons();
const processes = new Processes();
const rejected = new Rejected();
const run = new Run();
const killSwitch = new KillSwitch();
const summary = new HealthSummary();
const help = new Help();
new Columns();
const story = new Story((quote) => view.set({ quote }));
const fills = new Fills((symbol) => view.set({ symbol }), (quote, symbol) => view.set({ quote, symbol }));
const url = new URL("/stream", location.href);
url.protocol = url.protocol.replace("http", "ws");
const stream = new Stream(url.href, take, onPhaseChange);

let status = null; // of the last frame
let frameTime = null; // the server's clock in the last frame
let lastTick = 0;
let lastReorder = 0;
let lastSide = 0;
let lastFrame = 0;
let scheduled = false; // an update in the next animation frame
let waiting = 0; // the timer of a later update
let changed = false;
let symbolChanged = false; // the data of the charted symbol
let everLive = false;
let busiest = null; // the symbol whose chart is shown while none is chosen; empty if there is no room

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
    if (snapshot) symbolChart.restart();
    everLive = true;
    changed = true;
    symbolChanged ||= snapshot || frame.rows.some((row) => row.symbol === symbolChart.symbol);
  }
  schedule();
}

function onPhaseChange() {
  showState();
  schedule();
}

/** Apply the view. */
function follow() {
  if (filter.value !== view.filter) filter.value = view.filter;
  blotter.follow();
  fills.choose(view.symbol);
  symbolChart.choose(view.symbol || busiest || "");
  story.show(view.quote);
  lastSide = 0;
  scheduleNow();
}

/** Schedule an update, at least FRAME_INTERVAL after the last one. */
function schedule() {
  if (scheduled || waiting) return;
  const rest = lastFrame + FRAME_INTERVAL - performance.now();
  if (rest <= 0) scheduleNow();
  else waiting = setTimeout(scheduleNow, rest);
}

/** Schedule an update in the next animation frame. */
function scheduleNow() {
  clearTimeout(waiting);
  waiting = 0;
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(render);
}

/** If there is room below a short table, show the chart of the symbol with the most fills there. */
function chooseBusiest() {
  busiest = "";
  if (view.symbol || !run.node.hidden || !blotter.leavesRoom(CHART_ROOM)) return;
  let most = 0;
  for (const { symbol, data } of blotter.rows.values()) {
    if (data.position_version > most) [most, busiest] = [data.position_version, symbol];
  }
  symbolChart.choose(busiest);
}

/** The server's time. While the connection is down it stands still, because the page shows the past. */
function now() {
  return stream.phase === "live" || frameTime === null ? stream.now() : frameTime;
}

function render() {
  scheduled = false;
  const time = now();
  const at = performance.now();
  lastFrame = at;
  blotter.measure();
  const ticks = at - lastTick >= (calm.matches ? CALM_TICK : TICK);
  drawCharts(time, ticks);
  blotter.paint(time);
  if (changed) {
    totals.count(blotter.rows, at, time);
    changed = false;
  }
  if (ticks) {
    lastTick = at;
    reasons.update(blotter.rows, view.symbol, time);
    blotter.tick(time, at);
    processes.tick(time);
    run.tick(time);
  }
  if (at - lastReorder >= REORDER_INTERVAL) {
    lastReorder = at;
    if (blotter.sort.key !== "symbol") blotter.needsOrder = true;
    if (everLive) totals.count(blotter.rows, at, time);
    showSummary(time);
  }
  if (at - lastSide >= (calm.matches ? CALM_TICK : SIDE_INTERVAL)) {
    lastSide = at;
    fills.paint();
  }
  if (busiest === null && everLive) chooseBusiest();
  detail.show(everLive ? view.symbol : "", blotter.rows.get(view.symbol), time);
  if (status) killSwitch.show(status.switch, time);
  if (status) totals.expose(status.usage, status.exposure.detail);
  showState();
  showCount();
}

/** Draw the charts before anything is written, because a text on a canvas makes the browser resolve all changed styles. */
function drawCharts(time, ticks) {
  if (symbolChanged || !symbolChart.followed) symbolChart.follow(blotter.rows.get(symbolChart.symbol), fills.of(symbolChart.symbol), time);
  symbolChanged = false;
  symbolChart.tick(time);
  if (ticks) for (const chart of [...trend.charts, symbolChart.chart]) chart.mark(run.marks(time));
  trend.paint();
  symbolChart.paint();
}

/** Show whether the data is live, partly live, stale or down: in the pill with a word, in the banner with details. */
function showState() {
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
  const problems = state === "down" || state === "stale" ? [text] : [];
  if (stream.phase === "live") {
    if (status?.switch?.paused) problems.push("Paused");
    if (processes.notReady) problems.push(`${processes.notReady} not ready`);
  }
  alarm.update(problems);
}

/** Show the summary of the system's health; nothing while it is not known. */
function showSummary(time) {
  if (stream.phase !== "live" || !everLive || !processes.all) {
    summary.clear();
    return;
  }
  const problems = ["positions", "market"].filter((name) => !status[name].current).map((name) => `${name} not current`);
  if (!status.usage) problems.push("exposure not known");
  const paused = Boolean(status.switch?.paused);
  if (paused) problems.push("paused by the kill switch");
  summary.show(blotter.rows, processes, problems, paused, time);
}

function showCount() {
  const all = blotter.rows.size;
  put(count, !all ? "" : blotter.shown < all || blotter.filter ? `${whole(blotter.shown)} of ${whole(all)} symbols` : `${whole(all)} symbols`);
  put(empty, everLive ? (all ? "No symbol matches the filter" : "No symbols") : "Waiting for the first positions");
  reveal(empty, blotter.shown === 0);
}

function explain() {
  const quote = blotter.rows.get(view.symbol)?.data.quote?.quote_id;
  if (quote && quote === view.quote) story.load();
  else if (quote) view.set({ quote });
}

const copied = byId("copy").firstElementChild;
const COPY = copied.textContent;
const COPIED_FOR = 1500; // milliseconds

async function copyRow() {
  const row = blotter.rows.get(view.symbol);
  if (!row) return;
  put(copied, (await copy(csv(row, now()))) ? "Copied" : "Not copied: the browser does not allow it");
  setTimeout(() => put(copied, COPY), COPIED_FOR);
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

blotter.onSightChange = scheduleNow;
for (const chart of [...trend.charts, symbolChart.chart]) chart.onChange = scheduleNow;
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
