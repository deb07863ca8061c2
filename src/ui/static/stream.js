/**
 * The connection to the server. It is opened at once, and opened again after a failure, with growing pauses.
 *
 * The server sends a frame at least every second. So if none arrives within SILENCE, the connection is dead, whatever the
 * browser reports. Frames of a socket that was given up are ignored: frames come from one socket at a time.
 */

const SILENCE = 2500; // milliseconds, like all of these but the code
const FIRST_PAUSE = 400;
const LONGEST_PAUSE = 5000;
const UNAUTHORIZED = 1008; // the close code if the token is no longer valid
const CLOCK_WINDOW = 3000; // the server's clock is estimated from the frames of this time, at least three

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
    /** "connecting" before the first frame of a socket, then "live"; "waiting" before a retry at `retryAt`. */
    this.phase = "connecting";
    this.retryAt = 0;
    this.socket = null;
    this.failures = 0;
    this.lastReceived = 0;
    this.offset = null;
    this.differences = []; // of recent frames: when each was received, and by how much the server's clock was ahead
    setInterval(() => this.#check(), 250);
    addEventListener("online", () => this.#retryNow());
    document.addEventListener("visibilitychange", () => document.hidden || this.#retryNow());
    this.#open();
  }

  /** The estimated time of the server's clock, in milliseconds since the epoch. */
  now() {
    return performance.now() + (this.offset ?? Date.now() - performance.now());
  }

  #open() {
    const socket = new WebSocket(this.url);
    this.socket = socket;
    this.lastReceived = performance.now();
    this.differences = []; // another server may answer
    this.#setPhase("connecting");
    socket.onmessage = (event) => {
      if (socket === this.socket) this.#receive(event.data);
    };
    socket.onclose = (event) => {
      if (event.code === UNAUTHORIZED) location.reload(); // the form asks for another token
      else if (socket === this.socket) this.#giveUp();
    };
  }

  #receive(text) {
    const frame = JSON.parse(text);
    this.lastReceived = performance.now();
    this.failures = 0;
    // The largest difference is that of the frame with the least delay. Only recent frames count, so that the estimate
    // soon follows if the server's clock was set back, or if this computer slept.
    this.differences.push({ received: this.lastReceived, ahead: Date.parse(frame.time) - this.lastReceived });
    while (this.differences[0].received < this.lastReceived - CLOCK_WINDOW) this.differences.shift();
    this.offset = Math.max(...this.differences.map(({ ahead }) => ahead));
    this.#setPhase("live");
    this.onFrame(frame);
  }

  #giveUp() {
    const socket = this.socket;
    this.socket = null;
    socket.close();
    const pause = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** this.failures);
    this.failures += 1;
    this.retryAt = performance.now() + pause * (0.75 + Math.random() / 2);
    this.#setPhase("waiting");
  }

  #check() {
    const now = performance.now();
    if (this.socket && now - this.lastReceived > SILENCE) this.#giveUp();
    else if (this.phase === "waiting" && now >= this.retryAt) this.#open();
  }

  #retryNow() {
    if (this.phase === "waiting") this.#open();
  }

  #setPhase(phase) {
    if (phase === this.phase) return;
    this.phase = phase;
    this.onChange();
  }
}
