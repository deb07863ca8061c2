/** Numbers, ages and times as text. */

import { loadPreference } from "./preferences.js";

const grouped = new Intl.NumberFormat("en");
const units = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** 12345 → "12,345" */
export function whole(number) {
  return grouped.format(number);
}

/** 5 → "+5", -5 → "−5" with a real minus sign, 0 → "0" */
export function signed(number) {
  if (number === 0) return "0";
  return (number > 0 ? "+" : "−") + grouped.format(Math.abs(number));
}

const digits = { minimumFractionDigits: 2, maximumFractionDigits: 2 };
const cents = new Intl.NumberFormat("en", digits);
const compact = new Intl.NumberFormat("en", { ...digits, notation: "compact" });

/** Money, as a number or, exactly, as the text of one: "1234.5" → "+1,234.50", "-3.199" → "−3.20", "0.001" → "0.00" */
export function money(amount) {
  return withSign(amount, cents);
}

/** Money in at most nine characters, for a column: 123456.78 → "+123,457", -84063165 → "−84.06M" */
export function shortMoney(amount) {
  const size = Math.abs(amount);
  return withSign(amount, size < 9_999.995 ? cents : size < 999_999.5 ? units : compact);
}

/** The sign with which money is shown: 1, -1 or 0. */
export function signOf(amount) {
  return Math.abs(amount) < 0.005 ? 0 : Math.sign(amount);
}

function withSign(amount, format) {
  const text = format.format(String(amount).replace(/^-/, ""));
  if (text === "0.00") return text;
  return (Number(amount) > 0 ? "+" : "−") + text;
}

/** Milliseconds since something: "now", "12 s", "3 min", "2 h", "4 d". */
export function age(milliseconds) {
  const seconds = Math.floor(milliseconds / 1000);
  if (seconds < 1) return "now";
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

/** Remaining milliseconds: "24 s", and below ten seconds "9.8 s". */
export function left(milliseconds) {
  const seconds = milliseconds / 1000;
  return seconds >= 10 ? `${Math.floor(seconds)} s` : `${(Math.floor(seconds * 10) / 10).toFixed(1)} s`;
}

const parts = { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23", timeZoneName: "short" };
const zoned = new Intl.DateTimeFormat("en", parts);
const ownZone = loadPreference("own-zone", false);

/** Split a server time into date, time and zone. */
function split(milliseconds) {
  if (!ownZone) {
    const text = new Date(milliseconds).toISOString();
    return { date: text.slice(0, 10), time: text.slice(11, 19), zone: "UTC" };
  }
  const of = Object.fromEntries(zoned.formatToParts(milliseconds).map(({ type, value }) => [type, value]));
  return { date: `${of.year}-${of.month}-${of.day}`, time: `${of.hour}:${of.minute}:${of.second}`, zone: of.timeZoneName };
}

/** A server time as "09:30:05 UTC", or in the reader's zone if that was chosen. */
export function clock(milliseconds) {
  const { time, zone } = split(milliseconds);
  return `${time} ${zone}`;
}

/** The day of a server time: "2026-11-27". */
export function day(milliseconds) {
  return split(milliseconds).date;
}

/** A server time as from `clock`, with its day if that is not today. */
export function moment(milliseconds, now) {
  return day(milliseconds) === day(now) ? clock(milliseconds) : `${day(milliseconds)} ${clock(milliseconds)}`;
}

/** A label of a time axis with marks `step` milliseconds apart: "09:30", or "09:30:05" below a minute. */
export function axisTime(milliseconds, step) {
  return split(milliseconds).time.slice(0, step < 60_000 ? 8 : 5);
}
