/**
 * The view: the chosen symbol, the quote whose story is shown, and the order and filter of the rows.
 *
 * All of it is in the fragment of the page's address, so a reload shows the same, and the address can be shared.
 */

const DEFAULTS = { symbol: "", quote: "", sort: "symbol", filter: "" };

export class View {
  /** @param {() => void} onChange called when the view has changed */
  constructor(onChange) {
    this.onChange = onChange;
    this.#read();
    addEventListener("hashchange", () => {
      this.#read();
      this.onChange();
    });
  }

  /** Change some of `symbol`, `quote`, `sort` (a column's key, with "-" before it if descending) and `filter`. */
  set(changes) {
    Object.assign(this, changes);
    const parameters = new URLSearchParams(Object.keys(DEFAULTS).flatMap((key) => (this[key] === DEFAULTS[key] ? [] : [[key, this[key]]])));
    history.replaceState(null, "", `#${parameters}`);
    this.onChange();
  }

  #read() {
    const parameters = new URLSearchParams(location.hash.slice(1));
    for (const [key, fallback] of Object.entries(DEFAULTS)) this[key] = parameters.get(key) ?? fallback;
  }
}

/** The fragment of a view with this symbol chosen. */
export function linkTo(symbol) {
  return `#${new URLSearchParams({ symbol })}`;
}
