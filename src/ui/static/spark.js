/** The sparkline of a symbol: its recent net quantities, or its recent profits if those were chosen. */

import { loadPreference } from "./preferences.js";

export const OF_PROFIT = loadPreference("trend-of-profit", false);

/** The maximum number of points, and their spacing in milliseconds: a value that comes sooner replaces the last. */
const [MOST, SPACING] = OF_PROFIT ? [30, 10_000] : [60, 500];
const FEWEST = 20; // fewer points do not fill the width
const WIDTH = 76;
const HEIGHT = 18;

export class Spark {
  constructor() {
    this.points = [];
    this.last = -Infinity; // when the last point was added
    this.changed = true;
  }

  /** Replace all points. */
  restart(points, at) {
    this.points = points;
    this.last = at;
    this.changed = true;
  }

  /** Add a value, or replace the last one. */
  push(value, at) {
    if (at - this.last < SPACING && this.points.length > 1) {
      this.points[this.points.length - 1] = value;
    } else {
      this.points.push(value);
      if (this.points.length > MOST) this.points.shift();
      this.last = at;
    }
    this.changed = true;
  }

  /** Draw the points if they changed, the newest at the right edge, with a line at zero if zero is in their range. */
  trace(path, dot, zero) {
    if (!this.changed) return;
    this.changed = false;
    const { points } = this;
    write(dot, "r", points.length ? "1.75" : "0");
    if (!points.length) return;
    const lowest = Math.min(...points);
    const range = Math.max(...points) - lowest;
    const y = (value) => (range ? HEIGHT - 3 - ((value - lowest) / range) * (HEIGHT - 6) : HEIGHT / 2).toFixed(1);
    const step = (WIDTH - 4) / (Math.max(FEWEST, points.length) - 1);
    const start = WIDTH - 3 - (points.length - 1) * step;
    let d = `M${Math.max(1, start - step).toFixed(1)} ${y(points[0])}`;
    points.forEach((value, index) => {
      d += `V${y(value)}H${(start + index * step).toFixed(1)}`;
    });
    write(path, "d", d);
    write(dot, "cx", String(WIDTH - 3));
    write(dot, "cy", y(points[points.length - 1]));
    const zeroInSight = range && lowest <= 0 && lowest + range >= 0;
    write(zero, "d", zeroInSight ? `M0 ${y(0)}H${WIDTH}` : "");
  }
}

function write(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}
