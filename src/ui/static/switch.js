/** The kill switch: a banner that cannot be missed while makers are paused, and a word about it while they are not. */

import { byId, mark, put, reveal } from "./dom.js";
import { age, moment } from "./format.js";

export class KillSwitch {
  constructor() {
    this.banner = byId("paused");
    this.told = byId("paused-told");
    this.since = byId("paused-since");
    this.word = byId("switch");
  }

  /** Show how it stands at a server time; null while that is not known. */
  show(value, now) {
    const paused = Boolean(value?.paused);
    reveal(this.banner, paused);
    const at = value?.at ? Date.parse(value.at) : null;
    const by = value?.by ? ` by ${value.by}` : "";
    const nobody = by ? "" : "; by whom is not known";
    const doubt = value && !value.current ? ", as last known" : "";
    mark(this.word, "state", !value?.current ? "unknown" : paused ? "on" : "off");
    if (paused) {
      put(this.told, `Paused by the kill switch${doubt}`);
      put(this.since, at === null ? "" : `Set${by} at ${moment(at, now)}, ${age(Math.max(0, now - at))} ago${nobody}.`);
      put(this.word, "Kill switch: paused");
    } else {
      const turned = at === null ? "never used" : `off${by}, ${moment(at, now)}`;
      put(this.word, value ? `Kill switch: ${turned}${doubt}` : "Kill switch: not known");
    }
  }
}
