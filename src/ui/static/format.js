/** Numbers, ages and times as text. */

const grouped = new Intl.NumberFormat("en");

/** 12345 → "12,345" */
export function whole(number) {
  return grouped.format(number);
}

/** 5 → "+5", -5 → "−5" with a real minus sign, 0 → "0" */
export function signed(number) {
  if (number === 0) return "0";
  return (number > 0 ? "+" : "−") + grouped.format(Math.abs(number));
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

/** Milliseconds left: "24 s", and from ten seconds down "9.8 s". */
export function left(milliseconds) {
  const seconds = milliseconds / 1000;
  return seconds >= 10 ? `${Math.floor(seconds)} s` : `${(Math.floor(seconds * 10) / 10).toFixed(1)} s`;
}

/** A server time as "09:30:05 UTC". */
export function clock(milliseconds) {
  return `${new Date(milliseconds).toISOString().slice(11, 19)} UTC`;
}
