/** A run that breaks the system on purpose: its faults, here and in the charts, and the proofs of the audit at the end. */

import { byId, element, put, Text } from "./dom.js";
import { clock } from "./format.js";

const SIGNS = { proved: "✓", refuted: "✗" };
const LONGEST = 120_000; // milliseconds for which a fault without a known end is marked

export class Run {
  constructor() {
    this.node = byId("run");
    this.steps = [...byId("run-steps").children];
    this.verdict = byId("run-verdict");
    this.list = byId("run-faults");
    this.proofs = byId("run-proofs");
    this.faults = [];
    this.items = [];
  }

  /** Take the progress of the run. */
  take({ step, faults, clean, verdict, proofs }) {
    this.node.hidden = false;
    this.faults = faults.map((fault) => ({ ...fault, began: Date.parse(fault.began), readyAt: fault.ready_at ? Date.parse(fault.ready_at) : null }));
    for (const node of this.steps) {
      if (node.dataset.step === step) node.setAttribute("aria-current", "step");
      else node.removeAttribute("aria-current");
    }
    this.node.dataset.clean = clean ?? "unknown";
    put(this.verdict, verdict && `${clean ? "Clean" : "Refuted"}: ${verdict}`);
    while (this.items.length < faults.length) this.items.push(new FaultItem(this.list));
    this.items.forEach((item, index) => item.show(this.faults[index]));
    if (this.proofs.children.length !== proofs.length) this.proofs.replaceChildren(...proofs.map(proofItem));
  }

  /** Update the times. */
  tick(now) {
    for (const item of this.items) item.tick(now);
  }

  /** The times of the faults, for the charts. Faults that have not ended are marked until `now`. */
  marks(now) {
    return this.faults.map(({ target, began, readyAt }) => ({ from: began, to: readyAt ?? Math.min(now, began + LONGEST), label: target, key: "fault" }));
  }
}

class FaultItem {
  constructor(list) {
    this.node = element("li", "");
    const part = (name, className) => new Text(this.node.appendChild(element(name, className)));
    this.time = part("time", "");
    this.who = part("b", "");
    this.status = part("span", "status");
    list.append(this.node);
  }

  show(fault) {
    this.fault = fault;
    this.node.hidden = !fault;
    if (!fault) return;
    this.time.set(clock(fault.began).slice(0, 8));
    this.who.set(`${fault.target} ${fault.what}`);
    this.node.dataset.state = fault.ready_after === null ? "down" : fault.trading_after === null ? "ready" : "recovered";
  }

  tick(now) {
    if (!this.fault) return;
    const { began, ready_after: ready, trading_after: trading } = this.fault;
    const parts = [ready === null ? `for ${Math.max(0, (now - began) / 1000).toFixed(1)} s` : `ready after ${ready.toFixed(2)} s`];
    if (trading !== null) parts.push(`next fill after ${trading.toFixed(2)} s`);
    this.status.set(parts.join(", "));
  }
}

function proofItem({ code, status, statement }, index) {
  const sign = element("i", "", SIGNS[status] ?? "–");
  sign.setAttribute("aria-hidden", "true");
  const node = element("li", "", sign, element("b", "", code), element("span", "", statement, element("span", "visually-hidden", `: ${status}`)));
  node.dataset.status = status;
  node.style.setProperty("--place", index);
  return node;
}
