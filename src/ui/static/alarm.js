/** What is wrong, in the title of the window, where it is seen from another one; and, if wished, a sound when it begins. */

import { byId } from "./dom.js";
import { keep, kept } from "./keep.js";

const NAME = "Quotestream";
const QUIET = 5000; // milliseconds between two sounds, at least

export class Alarm {
  constructor() {
    this.box = byId("sound");
    this.box.checked = kept("sound", false);
    this.box.addEventListener("change", () => {
      keep("sound", this.box.checked);
      if (this.box.checked) this.#sound(); // as a sample; and a browser lets a page sound only once it was clicked on
    });
    this.troubles = [];
    this.last = -Infinity;
  }

  /** Tell what is wrong now; a sound is made when something is that was not before. */
  tell(troubles) {
    const title = [...troubles.slice(0, 2), NAME].join(" – ");
    if (document.title !== title) document.title = title;
    const fresh = troubles.some((trouble) => !this.troubles.includes(trouble));
    this.troubles = troubles;
    if (fresh && this.box.checked && performance.now() - this.last > QUIET) this.#sound();
  }

  /** Two short tones, made here. */
  #sound() {
    this.last = performance.now();
    this.audio ??= new AudioContext();
    this.audio.resume();
    const start = this.audio.currentTime;
    for (const [after, pitch] of [[0, 660], [0.18, 520]]) {
      const [tone, volume] = [this.audio.createOscillator(), this.audio.createGain()];
      tone.frequency.value = pitch;
      volume.gain.setValueAtTime(0.15, start + after);
      volume.gain.exponentialRampToValueAtTime(0.001, start + after + 0.16);
      tone.connect(volume).connect(this.audio.destination);
      tone.start(start + after);
      tone.stop(start + after + 0.17);
    }
  }
}
