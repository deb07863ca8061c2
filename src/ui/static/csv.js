/** A row as comma-separated values, with the names of the columns, for the clipboard. */

import { STATES } from "./row.js";

const COLUMNS = {
  symbol: (line) => line.symbol,
  net_quantity: ({ row }) => row.net_quantity,
  position_version: ({ row }) => row.position_version,
  last_fill_side: ({ row }) => row.last_fill?.side,
  last_fill_quantity: ({ row }) => row.last_fill?.quantity,
  last_fill_price: ({ row }) => row.last_fill?.price,
  updated_at: ({ row }) => row.updated_at,
  quote_id: ({ row }) => row.quote?.quote_id,
  bid_price: ({ row }) => row.quote?.bid_price,
  bid_remaining: ({ row }) => row.quote?.bid_remaining,
  bid_quantity: ({ row }) => row.quote?.bid_quantity,
  ask_price: ({ row }) => row.quote?.ask_price,
  ask_remaining: ({ row }) => row.quote?.ask_remaining,
  ask_quantity: ({ row }) => row.quote?.ask_quantity,
  expires_at: ({ row }) => row.quote?.expires_at,
  average_price: ({ row }) => row.money?.average_price,
  volume: ({ row }) => row.money?.volume,
  fees: ({ row }) => row.money?.fees,
  realized: ({ row }) => row.money?.realized,
  unrealized: (line, now) => line.profitAt(now)?.unrealized,
  profit: (line, now) => line.profitAt(now)?.total,
  mark: (line, now) => line.profitAt(now)?.mark,
  instrument: ({ row }) => row.instrument,
  state: (line, now) => STATES[line.stateAt(now)],
  reason: (line) => line.reason,
};

/** A symbol's line as two lines of CSV, at a server time. */
export function csv(line, now) {
  const values = Object.values(COLUMNS).map((value) => field(value(line, now) ?? ""));
  return `${Object.keys(COLUMNS).join(",")}\n${values.join(",")}\n`;
}

/** RFC 4180: quoted where it must be. */
function field(value) {
  const text = String(value);
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Put a text on the clipboard; false if the browser does not let us. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copiedByHand(text); // a page that did not come over TLS has no clipboard of its own
  }
}

function copiedByHand(text) {
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
