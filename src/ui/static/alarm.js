/** Shows problems in the title of the window, so that they can be seen from another one, and optionally sounds an alarm. */

import { byId } from "./dom.js";
import { loadPreference, savePreference } from "./preferences.js";

const NAME = "Quotestream";
const QUIET = 5000; // minimum milliseconds between two sounds

export class Alarm {
  constructor() {
    this.box = byId("sound");
    this.box.checked = loadPreference("sound", false);
    this.box.addEventListener("change", () => {
      savePreference("sound", this.box.checked);
      if (this.box.checked) this.#sound(); // as a sample; browsers allow sound only after a click on the page
    });
    this.problems = [];
    this.last = -Infinity;
  }

  /** Set the present problems. A new one sounds the alarm. */
  update(problems) {
    const title = [...problems.slice(0, 2), NAME].join(" – ");
    if (document.title !== title) document.title = title;
    const isNew = problems.some((problem) => !this.problems.includes(problem));
    this.problems = problems;
    if (isNew && this.box.checked && performance.now() - this.last > QUIET) this.#sound();
  }

  /** Play two short tones. */
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
