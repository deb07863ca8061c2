/** The reader's preferences, kept in the browser's storage if it allows that, or else until the page is left. */

const PREFIX = "quotestream.";
const cache = new Map();

/** Load a preference; `fallback` if there is none, or it has another type. */
export function loadPreference(name, fallback) {
  if (cache.has(name)) return cache.get(name);
  try {
    const text = localStorage.getItem(PREFIX + name);
    const value = text === null ? fallback : JSON.parse(text);
    return typeof value === typeof fallback && Array.isArray(value) === Array.isArray(fallback) ? value : fallback;
  } catch {
    return fallback;
  }
}

/** Save a preference. */
export function savePreference(name, value) {
  cache.set(name, value);
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // The storage is full, or not available to this page.
  }
}
