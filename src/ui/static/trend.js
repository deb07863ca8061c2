/**
 * The charts of profit and exposure over the last minutes and hours.
 *
 * A snapshot contains both series. After it each new point comes once, and is merged into the coarser series by the same
 * rule as on the server.
 */

import { Chart, extent, trace } from "./chart.js";
import { byId } from "./dom.js";
import { axisTime, money, shortMoney, whole } from "./format.js";
import { loadPreference, savePreference } from "./preferences.js";

const KEPT = [900, 28800]; // seconds of each series
const MIN_WINDOW = 30; // the shortest time shown, in seconds
const WINDOWS = { 300: "5 min", 900: "15 min", 3600: "1 h", 28800: "8 h" };
const [AT, PROFIT, BID, ASK] = [0, 1, 2, 3]; // the indexes of a point's values

export class Trend {
  /** @param {(seconds: number) => void} onWindow called when the time shown is chosen */
  constructor(onWindow) {
    this.onWindow = onWindow;
    this.series = [];
    this.limit = null;
    this.seconds = loadPreference("chart-seconds", 900);
    if (!Object.hasOwn(WINDOWS, this.seconds)) this.seconds = 900;
    const onCursor = (time) => this.charts.forEach((chart) => chart.point(time));
    this.profit = new Chart(byId("chart-profit"), [this.#profitPanel()], {
      read: (time) => this.#read(time, ([, profit]) => (profit === null ? "not known" : money(profit))),
      describe: () => this.#describe("Profit", PROFIT, money),
      onCursor,
    });
    this.exposure = new Chart(byId("chart-exposure"), [this.#exposurePanel()], {
      read: (time) => this.#read(time, ([, , bid, ask]) => (bid === null ? "not known" : `${whole(bid)} / ${whole(ask)}`)),
      describe: () => `${this.#describe("Bid exposure", BID, whole)}. ${this.#describe("Ask exposure", ASK, whole)}`,
      onCursor,
    });
    this.charts = [this.profit, this.exposure];
    this.buttons = Object.entries(WINDOWS).map(([seconds, label]) => this.#button(Number(seconds), label));
    byId("chart-window").append(...this.buttons);
    this.#choose(this.seconds);
  }

  /** Take the series or points of a frame. */
  take({ type, trend, points, status }) {
    this.limit = status.usage?.limit ?? this.limit;
    if (type === "snapshot") this.series = trend;
    else if (!points.length || !this.series.length) return;
    else for (const point of points.sort((one, other) => one[AT] - other[AT])) this.#add(point);
    this.#show();
  }

  /** Draw what has changed. */
  paint() {
    for (const chart of this.charts) chart.paint();
  }

  #add(point) {
    const [fine, coarse] = this.series;
    if (fine.points.at(-1)?.[AT] === point[AT]) return; // it was in the snapshot
    push(fine.points, point, KEPT[0]);
    const at = point[AT] - (point[AT] % coarse.step);
    const last = coarse.points.at(-1);
    push(coarse.points, last?.[AT] === at ? merged(last, point) : [at, ...point.slice(1)], KEPT[1]);
  }

  /** The series to draw: the finer one, if it reaches back far enough. */
  get #shown() {
    const [fine, coarse] = this.series;
    return this.seconds > KEPT[0] ? coarse : fine;
  }

  #show() {
    const shown = this.#shown;
    if (!shown?.points.length) return;
    const to = this.series[0].points.at(-1)[AT] + 1;
    const from = Math.max(to - this.seconds, Math.min(shown.points[0][AT], to - MIN_WINDOW));
    for (const chart of this.charts) {
      chart.show(from * 1000, to * 1000);
      chart.touch();
    }
  }

  *#values(place, from, to) {
    const { step, points } = this.#shown ?? { step: 1, points: [] };
    for (const point of points) {
      const time = (point[AT] + step / 2) * 1000;
      if (time >= from - step * 1000 && time <= to) yield [time, point[place]];
    }
  }

  #range(place, from, to) {
    return extent([...this.#values(place, from, to)].map(([, value]) => value));
  }

  #profitPanel() {
    return {
      share: 1,
      range: (from, to) => this.#range(PROFIT, from, to),
      text: (value, step) => (step < 1 || Math.abs(value) >= 10_000 ? shortMoney(value) : shortMoney(value).replace(".00", "")),
      draw: (pen) => {
        const { profit, long, short } = pen.colours;
        const area = { above: long, below: short };
        trace(pen, this.#values(PROFIT, pen.from, pen.to), { colour: profit, apart: this.#apart, area });
      },
    };
  }

  #exposurePanel() {
    return {
      share: 1,
      range: (from, to) => {
        const found = extent([BID, ASK].flatMap((place) => this.#range(place, from, to) ?? []));
        return found && [0, Math.max(found[1], this.limit ?? 0)];
      },
      text: (value) => (Number.isInteger(value) && value >= 0 ? whole(value) : ""),
      draw: (pen) => {
        for (const [place, key] of [[BID, "bid"], [ASK, "ask"]]) {
          trace(pen, this.#values(place, pen.from, pen.to), { colour: pen.colours[key], apart: this.#apart });
        }
        if (this.limit === null) return;
        pen.context.setLineDash([6, 3]);
        trace(pen, [[pen.from, this.limit], [pen.to, this.limit]], { colour: pen.colours.limit, width: 1 });
        pen.context.setLineDash([]);
      },
    };
  }

  get #apart() {
    return (this.#shown?.step ?? 1) * 2500;
  }

  #read(time, format) {
    const { step, points } = this.#shown ?? { step: 1, points: [] };
    const point = points.findLast((each) => each[AT] * 1000 <= time);
    const there = point && time - point[AT] * 1000 < step * 2500;
    return `${axisTime(time, 1000)}: ${there ? format(point) : "not recorded"}`;
  }

  #describe(name, place, format) {
    const values = [...this.#values(place, this.profit.from, this.profit.to)].map(([, value]) => value).filter((value) => value !== null);
    const range = extent(values);
    if (!range) return `${name} over time: not known yet`;
    return `${name} in the last ${WINDOWS[this.seconds]}: ${format(values.at(-1))}, between ${format(range[0])} and ${format(range[1])}`;
  }

  #button(seconds, label) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = label;
    button.addEventListener("click", () => {
      this.#choose(seconds);
      this.profit.onChange();
    });
    button.value = seconds;
    return button;
  }

  #choose(seconds) {
    this.seconds = seconds;
    savePreference("chart-seconds", seconds);
    for (const button of this.buttons) button.setAttribute("aria-pressed", Number(button.value) === seconds);
    this.onWindow(seconds);
    this.#show();
  }
}

/** Add a point, and drop those that are too old, or later than it because the clock was set back. */
function push(points, point, seconds) {
  while (points.length && points.at(-1)[AT] >= point[AT]) points.pop();
  points.push(point);
  while (points[0][AT] <= point[AT] - seconds) points.shift();
}

function merged(before, after) {
  const most = (place) => (before[place] === null ? after[place] : Math.max(before[place], after[place] ?? -Infinity));
  return [before[AT], after[PROFIT] ?? before[PROFIT], most(BID), most(ASK)];
}
