/**
 * What is looked at: the chosen symbol, the quote whose story is told, the order and the filter of the rows.
 *
 * All of it is in the fragment of the page's address, so a reload, or the address sent to somebody else, shows the same.
 */

const NOTHING = { symbol: "", quote: "", sort: "symbol", filter: "" };

export class View {
  /** @param {() => void} onChange called when something of it has changed */
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
    const told = new URLSearchParams(Object.keys(NOTHING).flatMap((key) => (this[key] === NOTHING[key] ? [] : [[key, this[key]]])));
    history.replaceState(null, "", `#${told}`);
    this.onChange();
  }

  #read() {
    const told = new URLSearchParams(location.hash.slice(1));
    for (const [key, otherwise] of Object.entries(NOTHING)) this[key] = told.get(key) ?? otherwise;
  }
}

/** The fragment that leads to a symbol. */
export function linkTo(symbol) {
  return `#${new URLSearchParams({ symbol })}`;
}
