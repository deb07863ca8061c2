/** The dialog with the list of keys, which `?` opens. */

import { byId } from "./dom.js";

export class Help {
  constructor() {
    this.dialog = byId("help");
    byId("help-open").addEventListener("click", () => this.open());
    byId("help-close").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog) this.dialog.close(); // a click outside of it
    });
  }

  get isOpen() {
    return this.dialog.open;
  }

  open() {
    if (!this.dialog.open) this.dialog.showModal();
  }
}
