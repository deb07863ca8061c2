/** What the keys do, on a sheet that `?` opens. */

import { byId } from "./dom.js";

export class Help {
  constructor() {
    this.sheet = byId("help");
    byId("help-open").addEventListener("click", () => this.open());
    byId("help-close").addEventListener("click", () => this.sheet.close());
    this.sheet.addEventListener("click", (event) => {
      if (event.target === this.sheet) this.sheet.close(); // beside the sheet
    });
  }

  get isOpen() {
    return this.sheet.open;
  }

  open() {
    if (!this.sheet.open) this.sheet.showModal();
  }
}
