/** A row as comma-separated values, with a header, for the clipboard. */

import { STATES } from "./row.js";

const COLUMNS = {
  symbol: (row) => row.symbol,
  net_quantity: ({ data }) => data.net_quantity,
  position_version: ({ data }) => data.position_version,
  last_fill_side: ({ data }) => data.last_fill?.side,
  last_fill_quantity: ({ data }) => data.last_fill?.quantity,
  last_fill_price: ({ data }) => data.last_fill?.price,
  updated_at: ({ data }) => data.updated_at,
  quote_id: ({ data }) => data.quote?.quote_id,
  bid_price: ({ data }) => data.quote?.bid_price,
  bid_remaining: ({ data }) => data.quote?.bid_remaining,
  bid_quantity: ({ data }) => data.quote?.bid_quantity,
  ask_price: ({ data }) => data.quote?.ask_price,
  ask_remaining: ({ data }) => data.quote?.ask_remaining,
  ask_quantity: ({ data }) => data.quote?.ask_quantity,
  expires_at: ({ data }) => data.quote?.expires_at,
  average_price: ({ data }) => data.money?.average_price,
  volume: ({ data }) => data.money?.volume,
  fees: ({ data }) => data.money?.fees,
  realized: ({ data }) => data.money?.realized,
  unrealized: (row, now) => row.profitAt(now)?.unrealized,
  profit: (row, now) => row.profitAt(now)?.total,
  mark: (row, now) => row.profitAt(now)?.mark,
  instrument: ({ data }) => data.instrument,
  state: (row, now) => STATES[row.stateAt(now)],
  reason: (row) => row.reason,
};

/** A row at a server time as CSV: a header and one line. */
export function csv(row, now) {
  const values = Object.values(COLUMNS).map((value) => field(value(row, now) ?? ""));
  return `${Object.keys(COLUMNS).join(",")}\n${values.join(",")}\n`;
}

/** Quote a value if necessary, by RFC 4180. */
function field(value) {
  const text = String(value);
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Copy a text to the clipboard. False if the browser does not allow it. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text); // a page without TLS has no `navigator.clipboard`
  }
}

function copyBySelection(text) {
  const before = document.activeElement;
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  before?.focus();
  return copied;
}
