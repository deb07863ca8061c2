/** The kill switch: a banner while makers are paused, and a short note about its state at all times. */

import { byId, mark, put, reveal } from "./dom.js";
import { age, moment } from "./format.js";

export class KillSwitch {
  constructor() {
    this.banner = byId("paused");
    this.text = byId("paused-text");
    this.since = byId("paused-since");
    this.note = byId("switch");
  }

  /** Show its state at a server time; null if that is not known. */
  show(value, now) {
    const paused = Boolean(value?.paused);
    reveal(this.banner, paused);
    const at = value?.at ? Date.parse(value.at) : null;
    const by = value?.by ? ` by ${value.by}` : "";
    const nobody = by ? "" : "; by whom is not known";
    const doubt = value && !value.current ? ", as last known" : "";
    mark(this.note, "state", !value?.current ? "unknown" : paused ? "on" : "off");
    if (paused) {
      put(this.text, `Paused by the kill switch${doubt}`);
      put(this.since, at === null ? "" : `Set${by} at ${moment(at, now)}, ${age(Math.max(0, now - at))} ago${nobody}.`);
      put(this.note, "Kill switch: paused");
    } else {
      const turned = at === null ? "never used" : `off${by}, ${moment(at, now)}`;
      put(this.note, value ? `Kill switch: ${turned}${doubt}` : "Kill switch: not known");
    }
  }
}
