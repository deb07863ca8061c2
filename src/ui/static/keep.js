/** What a reader has chosen, kept in the browser from one visit to the next where it allows that, and else until the page is left. */

const PREFIX = "quotestream.";
const held = new Map();

/** A choice that was kept; `otherwise` if there is none, or what was kept is of another kind. */
export function kept(name, otherwise) {
  if (held.has(name)) return held.get(name);
  try {
    const text = localStorage.getItem(PREFIX + name);
    const value = text === null ? otherwise : JSON.parse(text);
    return typeof value === typeof otherwise && Array.isArray(value) === Array.isArray(otherwise) ? value : otherwise;
  } catch {
    return otherwise;
  }
}

/** Keep a choice. */
export function keep(name, value) {
  held.set(name, value);
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // Storage is full, or not for this page: the choice lasts until the page is left.
  }
}
