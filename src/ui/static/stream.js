/**
 * The connection to the server: opened by itself, noticed when dead, opened again with growing pauses.
 *
 * The server sends a frame at least every second, so silence for SILENCE means that the connection is dead, whatever
 * the browser believes. A socket that was given up on is never listened to again: frames come from one socket at a time.
 */

const SILENCE = 2500;
const FIRST_PAUSE = 400;
const LONGEST_PAUSE = 5000;
const TURNED_AWAY = 1008; // the close code of a socket whose token is not valid any more
const HEARD = 3000; // milliseconds of frames from which the server's clock is estimated: three heartbeats, at least

export class Stream {
  /**
   * @param {string} url
   * @param {(frame: object) => void} onFrame
   * @param {() => void} onChange called when `phase` has changed
   */
  constructor(url, onFrame, onChange) {
    this.url = url;
    this.onFrame = onFrame;
    this.onChange = onChange;
    /** "connecting" before the first frame of a socket, "live" from it on, "waiting" until `retryAt`. */
    this.phase = "connecting";
    this.retryAt = 0;
    this.socket = null;
    this.failures = 0;
    this.heard = 0;
    this.offset = null;
    this.differences = []; // of the frames of the last while: when each was heard, and by how much the server's clock is ahead
    setInterval(() => this.#check(), 250);
    addEventListener("online", () => this.#hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.#hurry());
    this.#open();
  }

  /** The server's clock, in milliseconds since the epoch, as best known. */
  now() {
    return performance.now() + (this.offset ?? Date.now() - performance.now());
  }

  #open() {
    const socket = new WebSocket(this.url);
    this.socket = socket;
    this.heard = performance.now();
    this.differences = []; // another server may answer
    this.#become("connecting");
    socket.onmessage = (event) => {
      if (socket === this.socket) this.#hear(event.data);
    };
    socket.onclose = (event) => {
      if (event.code === TURNED_AWAY) location.reload(); // the form asks for another token
      else if (socket === this.socket) this.#giveUp();
    };
  }

  #hear(text) {
    const frame = JSON.parse(text);
    this.heard = performance.now();
    this.failures = 0;
    // A frame is never early: the largest difference is the one with the least delay. Only those of a short while count, so
    // that a server's clock that was set back, or a computer that slept, is followed within it.
    this.differences.push({ heard: this.heard, ahead: Date.parse(frame.time) - this.heard });
    while (this.differences[0].heard < this.heard - HEARD) this.differences.shift();
    this.offset = Math.max(...this.differences.map(({ ahead }) => ahead));
    this.#become("live");
    this.onFrame(frame);
  }

  #giveUp() {
    const socket = this.socket;
    this.socket = null;
    socket.close();
    const pause = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** this.failures);
    this.failures += 1;
    this.retryAt = performance.now() + pause * (0.75 + Math.random() / 2);
    this.#become("waiting");
  }

  #check() {
    const now = performance.now();
    if (this.socket && now - this.heard > SILENCE) this.#giveUp();
    else if (this.phase === "waiting" && now >= this.retryAt) this.#open();
  }

  #hurry() {
    if (this.phase === "waiting") this.#open();
  }

  #become(phase) {
    if (phase === this.phase) return;
    this.phase = phase;
    this.onChange();
  }
}
