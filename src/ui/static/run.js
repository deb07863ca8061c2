/** A run that breaks things on purpose: each fault as it strikes, here and in the charts, and what the audit proves at the end. */

import { byId, element, put, Text } from "./dom.js";
import { clock } from "./format.js";

const SIGNS = { proved: "✓", refuted: "✗" };
const LONGEST = 120_000; // milliseconds that a fault whose end is not known is marked for

export class Run {
  constructor() {
    this.node = byId("run");
    this.steps = [...byId("run-steps").children];
    this.verdict = byId("run-verdict");
    this.list = byId("run-faults");
    this.proofs = byId("run-proofs");
    this.faults = [];
    this.lines = [];
  }

  /** Take how far the run has come. */
  take({ step, faults, clean, verdict, proofs }) {
    this.node.hidden = false;
    this.faults = faults.map((fault) => ({ ...fault, began: Date.parse(fault.began), readyAt: fault.ready_at ? Date.parse(fault.ready_at) : null }));
    for (const node of this.steps) {
      if (node.dataset.step === step) node.setAttribute("aria-current", "step");
      else node.removeAttribute("aria-current");
    }
    this.node.dataset.clean = clean ?? "unknown";
    put(this.verdict, verdict && `${clean ? "Clean" : "Refuted"}: ${verdict}`);
    while (this.lines.length < faults.length) this.lines.push(new FaultLine(this.list));
    this.lines.forEach((line, index) => line.show(this.faults[index]));
    if (this.proofs.children.length !== proofs.length) this.proofs.replaceChildren(...proofs.map(proofLine));
  }

  /** Let time run. */
  tick(now) {
    for (const line of this.lines) line.tick(now);
  }

  /** The times of the faults, to be marked in charts; `now` ends those that go on. */
  marks(now) {
    return this.faults.map(({ target, began, readyAt }) => ({ from: began, to: readyAt ?? Math.min(now, began + LONGEST), label: target, key: "fault" }));
  }
}

class FaultLine {
  constructor(list) {
    this.node = element("li", "");
    const part = (name, className) => new Text(this.node.appendChild(element(name, className)));
    this.time = part("time", "");
    this.who = part("b", "");
    this.told = part("span", "told");
    list.append(this.node);
  }

  show(fault) {
    this.fault = fault;
    this.node.hidden = !fault;
    if (!fault) return;
    this.time.set(clock(fault.began).slice(0, 8));
    this.who.set(`${fault.target} ${fault.what}`);
    this.node.dataset.state = fault.ready_after === null ? "down" : fault.trading_after === null ? "ready" : "well";
  }

  tick(now) {
    if (!this.fault) return;
    const { began, ready_after: ready, trading_after: trading } = this.fault;
    const parts = [ready === null ? `for ${Math.max(0, (now - began) / 1000).toFixed(1)} s` : `ready after ${ready.toFixed(2)} s`];
    if (trading !== null) parts.push(`next fill after ${trading.toFixed(2)} s`);
    this.told.set(parts.join(", "));
  }
}

function proofLine({ code, status, statement }, index) {
  const sign = element("i", "", SIGNS[status] ?? "–");
  sign.setAttribute("aria-hidden", "true");
  const node = element("li", "", sign, element("b", "", code), element("span", "", statement, element("span", "visually-hidden", `: ${status}`)));
  node.dataset.status = status;
  node.style.setProperty("--place", index);
  return node;
}
