/**
 * A chart on a canvas: panels of values over a common axis of time, and a readout of the values at the pointer.
 *
 * It is drawn only when something has changed. The panels are drawn into a buffer, a hidden canvas that is wider than the
 * visible one. As time advances, another part of the buffer is copied, and only its end is drawn again, from where values
 * have changed. The whole buffer is drawn again when its end is reached, or when the size, the scale, the time shown or all
 * values have changed.
 *
 * Colours come from the document: text and grid are the canvas's own colour and border, the others the colours of the keys
 * in the figure's caption.
 */

import { put } from "./dom.js";
import { axisTime } from "./format.js";

const RIGHT = 58; // pixels beside the panels, for values
const BOTTOM = 17; // pixels below them, for times
const TOP = 5; // pixels above them, for half a value
const GAP = 10; // pixels between two panels
const TIMES_APART = 84;
const VALUES_APART = 16;
const PAD = 0.08; // of a panel's range, above and below
const FULL = 0.7; // of a scale: if the values use less of it, a finer one is chosen
const RANGE_INTERVAL = 1000; // milliseconds after which the range is computed again over all values, because old ones have left
const SPARE = 0.5; // the buffer is wider than the visible canvas by this part of the width
const EDGE = 8; // pixels by which a mark or a line may extend beyond its time
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800]; // seconds
const FONT = '11px system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif';

/**
 * @typedef {object} Panel
 * @property {number} share of the height
 * @property {(from: number, to: number) => [number, number] | null} range the lowest and highest value in a time; null if there is none
 * @property {(pen: object) => void} draw draws the values from the pen's `from` to its `to`
 * @property {(value: number) => string} text formats a value beside the axis
 */

export class Chart {
  /**
   * @param {HTMLElement} figure contains a canvas, keys (`[data-colour]`) and a readout (`.readout`)
   * @param {Panel[]} panels from top to bottom
   * @param {{ read: (time: number) => string, describe: () => string, onCursor?: (time: number | null) => void, onPick?: (time: number) => void }} of
   *   the readout at a time, a description of the chart in words, and the handlers of the pointer and of a click
   */
  constructor(figure, panels, { read, describe, onCursor, onPick }) {
    this.figure = figure;
    this.canvas = figure.querySelector("canvas");
    this.context = this.canvas.getContext("2d");
    this.readout = figure.querySelector(".readout");
    this.keys = [...figure.querySelectorAll("[data-colour]")];
    this.panels = panels;
    this.read = read;
    this.describe = describe;
    this.wanted = [0, 1]; // the time to show
    this.from = 0; // the time that is shown: the same, moved by a part of a pixel
    this.to = 1;
    this.cursor = null;
    this.marks = []; // { from, to, label, key }: times marked in all panels
    this.dirty = true;
    this.size = [0, 0]; // pixels of the canvas; 0 while it is hidden
    this.colours = null; // null if the size or the colours may have changed
    this.buffer = document.createElement("canvas"); // the panels, from the time `bufferFrom` on
    this.bufferContext = this.buffer.getContext("2d");
    this.bufferFrom = 0;
    this.apart = 0; // milliseconds per pixel of the buffer
    this.changed = -Infinity; // the time since which values have changed and are not drawn yet
    this.scales = this.panels.map(() => null);
    this.ranges = [];
    this.rangedAt = -Infinity;
    this.onChange = () => {}; // called when it must be drawn for another reason than new values
    const point = (time) => (onCursor ? onCursor(time) : this.point(time));
    this.canvas.addEventListener("pointermove", (event) => point(this.#timeAt(event.offsetX)));
    this.canvas.addEventListener("pointerleave", () => point(null));
    this.canvas.addEventListener("blur", () => point(null));
    this.canvas.addEventListener("click", (event) => onPick?.(this.#timeAt(event.offsetX)));
    this.canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step) point(Math.min(this.to, Math.max(this.from, (this.cursor ?? this.to) + (step * (this.to - this.from)) / 100)));
      else if (event.key === "Enter" && this.cursor !== null) onPick?.(this.cursor);
      else return;
      event.preventDefault();
    });
    // Observing the size avoids a layout of the page during drawing.
    new ResizeObserver(([{ contentRect }]) => {
      this.size = [Math.round(contentRect.width), Math.round(contentRect.height)];
      this.#restyle();
    }).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#restyle());
  }

  /** True if the chart is visible. */
  get visible() {
    return this.size[0] > 0;
  }

  /** Show the time between two times, in milliseconds since the epoch. */
  show(from, to) {
    if (from === this.wanted[0] && to === this.wanted[1]) return;
    this.wanted = [from, to];
    this.dirty = true;
  }

  /** Mark times in all panels: { from, to, label, key }. */
  mark(marks) {
    const seen = marks.length === this.marks.length && marks.every((mark, index) => mark.to === this.marks[index].to && mark.from === this.marks[index].from);
    if (seen) return;
    this.marks = marks;
    this.dirty = true;
  }

  /** Show the readout at a time; null for none. */
  point(time) {
    if (time === this.cursor) return;
    this.cursor = time;
    this.dirty = true;
    this.onChange();
  }

  /** Note that values have changed since a time; all of them, if no time is given. */
  touch(since = -Infinity) {
    this.dirty = true;
    this.changed = Math.min(this.changed, since);
  }

  /** Draw, if something has changed. */
  paint() {
    if (!this.dirty || !this.visible) return;
    this.dirty = false;
    if (!this.colours) this.#measure();
    this.#updateBuffer();
    const { context: pen, height } = this;
    pen.clearRect(0, 0, ...this.size);
    this.#drawTimes();
    this.#drawMarks();
    this.panels.forEach((panel, index) => this.#drawScale(panel, this.scales[index]));
    this.#copyBuffer();
    if (this.cursor !== null) this.#line(this.#x(this.cursor), 0, this.#x(this.cursor), height, this.colours.text);
    put(this.readout, this.cursor === null ? "" : this.read(this.cursor));
    const label = this.describe();
    if (label !== this.label) this.canvas.setAttribute("aria-label", (this.label = label));
  }

  #restyle() {
    this.colours = null;
    this.touch();
    this.onChange();
  }

  #measure() {
    const { canvas, buffer, size: [width, height] } = this;
    const scale = (this.pixels = devicePixelRatio || 1);
    [this.width, this.height] = [width - RIGHT, height - BOTTOM];
    canvas.width = Math.round(width * scale);
    buffer.width = Math.round(this.width * (1 + SPARE) * scale);
    buffer.height = canvas.height = Math.round(height * scale);
    for (const pen of [this.context, this.bufferContext]) pen.setTransform(scale, 0, 0, scale, 0, 0);
    this.context.font = FONT;
    const shares = this.panels.reduce((sum, panel) => sum + panel.share, 0);
    const room = this.height - TOP - GAP * (this.panels.length - 1);
    let top = TOP;
    this.places = this.panels.map(({ share }) => {
      const place = { top, tall: (room * share) / shares };
      top += place.tall + GAP;
      return place;
    });
    const { color: text, borderTopColor: grid } = getComputedStyle(canvas);
    this.colours = { text, grid };
    for (const key of this.keys) this.colours[key.dataset.colour] = getComputedStyle(key).color;
  }

  /** Draw into the buffer what is missing, and choose the part to show, from a whole pixel of the buffer on. */
  #updateBuffer() {
    const { wanted: [from, to], width, pixels } = this;
    const apart = (to - from) / width;
    const wide = width * (1 + SPARE);
    const redraws =
      this.#rescale() || this.changed < from || apart !== this.apart || from < this.bufferFrom || to > this.bufferFrom + wide * apart;
    if (redraws) [this.bufferFrom, this.apart] = [from, apart];
    if (redraws || this.changed !== to) this.#drawPanels(redraws ? from : Math.min(this.changed, to), to, wide);
    this.changed = to;
    this.shift = Math.round(((from - this.bufferFrom) / apart) * pixels); // in pixels of the screen
    this.from = this.bufferFrom + (this.shift / pixels) * apart;
    this.to = this.from + width * apart;
  }

  /** Draw the panels into the buffer from a time on, clearing what was there. */
  #drawPanels(since, to, wide) {
    const { bufferFrom, apart, bufferContext: pen, colours, pixels } = this;
    const x = (time) => (time - bufferFrom) / apart;
    const left = Math.max(0, Math.floor((x(since) - EDGE) * pixels) / pixels);
    const from = Math.max(this.wanted[0], bufferFrom + (left - EDGE) * apart);
    pen.clearRect(left, 0, wide - left, this.size[1]);
    this.panels.forEach((panel, index) => {
      const scale = this.scales[index];
      if (!scale) return;
      const { top, tall } = this.places[index];
      pen.save();
      pen.beginPath();
      pen.rect(left, top - 1, wide - left, tall + 2);
      pen.clip();
      panel.draw({ context: pen, x, y: placed(scale, top, tall), colours, width: wide, top, tall, from, to });
      pen.restore();
    });
  }

  #copyBuffer() {
    const { context: pen, buffer, pixels, shift } = this;
    const wide = Math.round((this.width + 1) * pixels);
    pen.save();
    pen.resetTransform(); // one pixel to one pixel
    pen.drawImage(buffer, shift, 0, wide, buffer.height, 0, 0, wide, buffer.height);
    pen.restore();
  }

  /** Choose the scale of each panel: the same as before, if the values fit and fill most of it. True if any has changed. */
  #rescale() {
    const { wanted: [from, to], changed } = this;
    const recomputes = changed < from || to < this.rangedAt || to - this.rangedAt >= RANGE_INTERVAL;
    if (recomputes) this.rangedAt = to;
    let rescaled = false;
    this.panels.forEach((panel, index) => {
      const found = panel.range(recomputes ? from : Math.min(changed, to), to);
      const range = (this.ranges[index] = recomputes ? found : extent([...(this.ranges[index] ?? []), ...(found ?? [])]));
      const scale = changed < from ? null : this.scales[index];
      if (scale && range && fits(range, scale)) return;
      const [low, high] = range ? padded(range) : [null, null];
      if (low === (scale?.low ?? null) && high === (scale?.high ?? null)) return;
      this.scales[index] = range && { low, high };
      rescaled = true;
    });
    return rescaled;
  }

  #x(time) {
    return ((time - this.from) / (this.to - this.from)) * this.width;
  }

  #timeAt(x) {
    return this.from + (Math.min(this.width, Math.max(0, x)) / this.width) * (this.to - this.from);
  }

  #line(x1, y1, x2, y2, colour, dash = []) {
    const { context: pen } = this;
    pen.setLineDash(dash);
    pen.strokeStyle = colour;
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(Math.round(x1) + 0.5, Math.round(y1) + 0.5);
    pen.lineTo(Math.round(x2) + 0.5, Math.round(y2) + 0.5);
    pen.stroke();
    pen.setLineDash([]);
  }

  #drawTimes() {
    const { context: pen, colours, height, width } = this;
    const least = ((this.to - this.from) / width) * TIMES_APART;
    const step = (STEPS.find((each) => each * 1000 >= least) ?? STEPS.at(-1)) * 1000;
    pen.fillStyle = colours.text;
    pen.textBaseline = "alphabetic";
    pen.textAlign = "center";
    for (let time = Math.ceil(this.from / step) * step; time <= this.to; time += step) {
      const x = this.#x(time);
      this.#line(x, 0, x, height, colours.grid);
      if (x > 22 && x < width + 10) pen.fillText(axisTime(time, step), x, height + 13);
    }
  }

  #drawMarks() {
    const { context: pen, colours, height, width } = this;
    pen.textBaseline = "bottom";
    const seen = this.marks.filter(({ from, to }) => to >= this.from && from <= this.to);
    let free = 0; // the first pixel with room for a label
    seen.forEach(({ from, to, label, key }, index) => {
      const [left, right] = [Math.max(0, this.#x(from)), Math.min(width, this.#x(to))];
      pen.globalAlpha = 0.22;
      pen.fillStyle = colours[key];
      pen.fillRect(left, 0, Math.max(2, right - left), height);
      pen.globalAlpha = 1;
      this.#line(left, 0, left, height, colours[key]);
      const long = pen.measureText(label).width;
      const next = index + 1 < seen.length ? this.#x(seen[index + 1].from) : width;
      const fitsAfter = left + 4 + long < next;
      if (!fitsAfter && left - 4 - long < free) return;
      pen.textAlign = fitsAfter ? "left" : "right";
      pen.fillStyle = colours[key];
      pen.fillText(label, fitsAfter ? left + 4 : left - 4, height - 2);
      free = fitsAfter ? left + 8 + long : left;
    });
  }

  #drawScale(panel, scale) {
    const { context: pen, colours, width } = this;
    const { top, tall } = this.places[this.panels.indexOf(panel)];
    this.#line(0, top + tall, width, top + tall, colours.grid);
    if (!scale) return;
    const { low, high } = scale;
    const y = placed(scale, top, tall);
    const step = niceStep((high - low) / Math.max(1, Math.floor(tall / VALUES_APART)));
    pen.textAlign = "left";
    pen.textBaseline = "middle";
    for (let value = Math.ceil(low / step) * step; value <= high; value += step) {
      const clean = Math.abs(value) < step / 1000 ? 0 : value;
      this.#line(0, y(clean), width, y(clean), colours.grid, clean === 0 ? [] : [2, 3]);
      pen.fillStyle = colours.text;
      pen.fillText(panel.text(clean, step), width + 6, y(clean));
    }
  }
}

/** Return a function from a value to its pixel on a panel. */
function placed({ low, high }, top, tall) {
  return (value) => top + tall - ((value - low) / (high - low)) * tall;
}

/** True if a range is within a scale, and fills most of it. */
function fits([lowest, highest], { low, high }) {
  return lowest >= low && highest <= high && highest - lowest >= FULL * (high - low);
}

/** Add room above and below a range, also to one that is a single value. */
function padded([low, high]) {
  const pad = (high - low) * PAD || Math.max(Math.abs(high) * 0.001, 1);
  return [low - pad, high + pad];
}

/** Round up to one of …, 0.5, 1, 2, 5, 10, 20, … */
function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].find((step) => step * power >= least * 0.999) * power;
}

/**
 * Trace values over time; a value that is null, or a time without one, breaks the line.
 *
 * @param {object} pen as passed to a panel
 * @param {Iterable<[number, number | null]>} points times and values, in order
 * @param {{ colour: string, apart?: number, steps?: boolean, width?: number, area?: { above: string, below: string } }} how
 *   `apart`: milliseconds after which a time without a point is a gap; `steps`: a value holds until the next; `area`: the
 *   colours between the line and zero
 */
export function trace(pen, points, { colour, apart = Infinity, steps = false, width = 1.5, area = null }) {
  const { context, x, y } = pen;
  for (const part of parts(points, apart)) {
    const path = new Path2D();
    let before = null;
    for (const [time, value] of part) {
      if (before === null) path.moveTo(x(time), y(value));
      else {
        if (steps) path.lineTo(x(time), y(before));
        path.lineTo(x(time), y(value));
      }
      before = value;
    }
    if (part.length === 1) path.lineTo(x(part[0][0]) + 1.5, y(part[0][1]));
    if (area) fillToZero(pen, path, part, area);
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.lineJoin = "round";
    context.stroke(path);
  }
}

function fillToZero({ context, x, y, top, tall, width }, line, part, { above, below }) {
  const zero = Math.min(top + tall, Math.max(top, y(0)));
  const path = new Path2D(line);
  path.lineTo(x(part.at(-1)[0]), zero);
  path.lineTo(x(part[0][0]), zero);
  path.closePath();
  context.globalAlpha = 0.25;
  for (const [colour, from, to] of [[above, top, zero], [below, zero, top + tall]]) {
    context.save();
    context.beginPath();
    context.rect(0, from, width, to - from);
    context.clip();
    context.fillStyle = colour;
    context.fill(path);
    context.restore();
  }
  context.globalAlpha = 1;
}

function* parts(points, apart) {
  let part = [];
  for (const point of points) {
    const [time, value] = point;
    if (part.length && (value === null || time - part.at(-1)[0] > apart)) {
      yield part;
      part = [];
    }
    if (value !== null) part.push(point);
  }
  if (part.length) yield part;
}

/** The lowest and highest of some values; null if there are none. */
export function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value === null) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : null;
}
