/**
 * A chart on a canvas: panels of values over one axis of time, and what is read under the pointer.
 *
 * It is drawn when something has changed, and not otherwise. What the panels show is drawn once, on a canvas out of sight
 * that is longer than the one in sight: as time goes on, another part of it is copied, and only its end is drawn anew,
 * from where values have changed. All of it is drawn again when its end is reached, when another size, scale or span of
 * time is to be shown, or when the panel's values are others.
 *
 * Colours are those of the document: text and grid are the canvas's own colour and border, the others the colours of the
 * keys in the figure's caption.
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
const FULL = 0.7; // of a scale: one that is used by less is left for a finer one
const LOOK = 1000; // milliseconds after which the whole range is looked at again, for values that have left
const SPARE = 0.5; // of the width: what is drawn may go on for so much before all is drawn again
const EDGE = 8; // pixels by which a mark, or a line, may reach beyond its time
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800]; // seconds
const FONT = '11px system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif';

/**
 * @typedef {object} Panel
 * @property {number} share of the height
 * @property {(from: number, to: number) => [number, number] | null} range lowest and highest value of a time; null if there is none
 * @property {(pen: object) => void} draw what there is from the pen's `from` to its `to`
 * @property {(value: number) => string} text a value beside the axis
 */

export class Chart {
  /**
   * @param {HTMLElement} figure has a canvas, keys (`[data-colour]`) and a place for what is read (`.readout`)
   * @param {Panel[]} panels from top to bottom
   * @param {{ read: (time: number) => string, told: () => string, onCursor?: (time: number | null) => void, onPick?: (time: number) => void }} of
   *   what is read at a time, what the chart comes to in words, and whom to tell where the pointer is and of a click
   */
  constructor(figure, panels, { read, told, onCursor, onPick }) {
    this.figure = figure;
    this.canvas = figure.querySelector("canvas");
    this.context = this.canvas.getContext("2d");
    this.readout = figure.querySelector(".readout");
    this.keys = [...figure.querySelectorAll("[data-colour]")];
    this.panels = panels;
    this.read = read;
    this.told = told;
    this.wanted = [0, 1]; // the time to be shown
    this.from = 0; // the time that is shown: the same, moved by a part of a pixel
    this.to = 1;
    this.cursor = null;
    this.marks = []; // { from, to, label, key }: times that are marked in all panels
    this.dirty = true;
    this.size = [0, 0]; // pixels of the canvas; 0 while nothing of it is seen
    this.colours = null; // null: its size, its place or its colours may be others
    this.drawn = document.createElement("canvas"); // what the panels show, from `drawnFrom` on
    this.drawnContext = this.drawn.getContext("2d");
    this.drawnFrom = 0;
    this.apart = 0; // milliseconds of a pixel there
    this.changed = -Infinity; // since when values are others than are drawn
    this.scales = this.panels.map(() => null);
    this.ranges = [];
    this.looked = -Infinity;
    this.onWish = () => {}; // it must be drawn although no values have come: a reader or the window wants it
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
    // The size is known from here, so that drawing never makes the browser lay out the page.
    new ResizeObserver(([{ contentRect }]) => {
      this.size = [Math.round(contentRect.width), Math.round(contentRect.height)];
      this.#restyle();
    }).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#restyle());
  }

  /** Whether any of it is seen. */
  get visible() {
    return this.size[0] > 0;
  }

  /** Show the time between two times, in milliseconds. */
  show(from, to) {
    if (from === this.wanted[0] && to === this.wanted[1]) return;
    this.wanted = [from, to];
    this.dirty = true;
  }

  /** Mark some times in all panels: { from, to, label, key }. */
  mark(marks) {
    const seen = marks.length === this.marks.length && marks.every((mark, index) => mark.to === this.marks[index].to && mark.from === this.marks[index].from);
    if (seen) return;
    this.marks = marks;
    this.dirty = true;
  }

  /** Read at a time; null: nothing is pointed at. */
  point(time) {
    if (time === this.cursor) return;
    this.cursor = time;
    this.dirty = true;
    this.onWish();
  }

  /** Values have changed since a time, and all of them if none is given. It is drawn with the next picture. */
  touch(since = -Infinity) {
    this.dirty = true;
    this.changed = Math.min(this.changed, since);
  }

  /** Draw, if something has changed. */
  paint() {
    if (!this.dirty || !this.visible) return;
    this.dirty = false;
    if (!this.colours) this.#measure();
    this.#drawPast();
    const { context: pen, height } = this;
    pen.clearRect(0, 0, ...this.size);
    this.#drawTimes();
    this.#drawMarks();
    this.panels.forEach((panel, index) => this.#drawScale(panel, this.scales[index]));
    this.#copyPast();
    if (this.cursor !== null) this.#line(this.#x(this.cursor), 0, this.#x(this.cursor), height, this.colours.text);
    put(this.readout, this.cursor === null ? "" : this.read(this.cursor));
    const label = this.told();
    if (label !== this.label) this.canvas.setAttribute("aria-label", (this.label = label));
  }

  #restyle() {
    this.colours = null;
    this.touch();
    this.onWish();
  }

  #measure() {
    const { canvas, drawn, size: [width, height] } = this;
    const scale = (this.pixels = devicePixelRatio || 1);
    [this.width, this.height] = [width - RIGHT, height - BOTTOM];
    canvas.width = Math.round(width * scale);
    drawn.width = Math.round(this.width * (1 + SPARE) * scale);
    drawn.height = canvas.height = Math.round(height * scale);
    for (const pen of [this.context, this.drawnContext]) pen.setTransform(scale, 0, 0, scale, 0, 0);
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

  /** Have on the canvas out of sight what is to be shown, and show it from a whole pixel of that canvas on. */
  #drawPast() {
    const { wanted: [from, to], width, pixels } = this;
    const apart = (to - from) / width;
    const wide = width * (1 + SPARE);
    const anew =
      this.#rescale() || this.changed < from || apart !== this.apart || from < this.drawnFrom || to > this.drawnFrom + wide * apart;
    if (anew) [this.drawnFrom, this.apart] = [from, apart];
    if (anew || this.changed !== to) this.#drawPanels(anew ? from : Math.min(this.changed, to), to, wide);
    this.changed = to;
    this.shift = Math.round(((from - this.drawnFrom) / apart) * pixels); // in pixels of the screen
    this.from = this.drawnFrom + (this.shift / pixels) * apart;
    this.to = this.from + width * apart;
  }

  /** Draw there what begins at a time, and clear what was drawn from that time on. */
  #drawPanels(since, to, wide) {
    const { drawnFrom, apart, drawnContext: pen, colours, pixels } = this;
    const x = (time) => (time - drawnFrom) / apart;
    const left = Math.max(0, Math.floor((x(since) - EDGE) * pixels) / pixels);
    const from = Math.max(this.wanted[0], drawnFrom + (left - EDGE) * apart);
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

  #copyPast() {
    const { context: pen, drawn, pixels, shift } = this;
    const wide = Math.round((this.width + 1) * pixels);
    pen.save();
    pen.resetTransform(); // a pixel to a pixel
    pen.drawImage(drawn, shift, 0, wide, drawn.height, 0, 0, wide, drawn.height);
    pen.restore();
  }

  /** Have a scale for each panel: as before, as long as what there is fits and fills most of it. Returns whether one is another. */
  #rescale() {
    const { wanted: [from, to], changed } = this;
    const anew = changed < from || to < this.looked || to - this.looked >= LOOK;
    if (anew) this.looked = to;
    let rescaled = false;
    this.panels.forEach((panel, index) => {
      const found = panel.range(anew ? from : Math.min(changed, to), to);
      const range = (this.ranges[index] = anew ? found : extent([...(this.ranges[index] ?? []), ...(found ?? [])]));
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
    let free = 0; // from where on there is room for a label
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

/** Where on a panel a value is. */
function placed({ low, high }, top, tall) {
  return (value) => top + tall - ((value - low) / (high - low)) * tall;
}

/** Whether a range is in a scale, and fills most of it. */
function fits([lowest, highest], { low, high }) {
  return lowest >= low && highest <= high && highest - lowest >= FULL * (high - low);
}

/** Room above and below; a range that is a single value gets some, too. */
function padded([low, high]) {
  const pad = (high - low) * PAD || Math.max(Math.abs(high) * 0.001, 1);
  return [low - pad, high + pad];
}

/** The next of 1, 2, 5, 10, 20, …, and their parts. */
function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].find((step) => step * power >= least * 0.999) * power;
}

/**
 * Trace values over time; a value that is null, or a time without one, breaks the line.
 *
 * @param {object} pen as a panel is given it
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

/** Lowest and highest of some values; null if there are none. */
export function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value === null) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : null;
}
