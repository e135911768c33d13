// Numbers and times as people read them. Pure.

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** 1536 → "1.5 KiB" */
export function size(bytes) {
  if (bytes === null || bytes === undefined) return 'unknown';
  let unit = 0;
  while (Math.abs(bytes) >= 1024 && unit < UNITS.length - 1) {
    bytes /= 1024;
    unit += 1;
  }
  return `${unit && bytes < 100 ? Math.round(bytes * 10) / 10 : Math.round(bytes)} ${UNITS[unit]}`;
}

/** Seconds → "3.2 ms" */
export function latency(seconds) {
  if (seconds === null || seconds === undefined) return '–';
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  return seconds < 1 ? `${short(seconds * 1000)} ms` : `${short(seconds)} s`;
}

/** 1.25 → "1.3", 12.5 → "13" */
function short(number) {
  return number < 10 ? String(Math.round(number * 10) / 10) : String(Math.round(number));
}

/** Seconds → "3 min 20 s", the two largest units. */
export function duration(seconds) {
  seconds = Math.max(0, Math.round(seconds));
  const units = [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]];
  const first = units.findIndex(([, length]) => seconds >= length);
  if (first < 0) return '0 s';
  const [name, length] = units[first];
  const rest = first + 1 < units.length ? Math.floor((seconds % length) / units[first + 1][1]) : 0;
  return `${Math.floor(seconds / length)} ${name}` + (rest ? ` ${rest} ${units[first + 1][0]}` : '');
}

export function ago(then, now) {
  if (then === null || then === undefined) return 'never';
  return now - then < 5 ? 'just now' : `${duration(now - then)} ago`;
}

/** A moment as here on the clock; with its day unless that is today. */
export function moment(seconds, now) {
  const date = new Date(seconds * 1000);
  const today = date.toDateString() === new Date(now * 1000).toDateString();
  const time = date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit' });
  return today ? time : `${date.toLocaleDateString([], { day: 'numeric', month: 'short' })} ${time}`;
}

export function count(number, noun) {
  return `${number.toLocaleString()} ${noun}${number === 1 ? '' : 's'}`;
}

/** The commands say it in lower case, behind a word; here it begins a line. */
export function sentence(words) {
  return words.charAt(0).toUpperCase() + words.slice(1);
}
