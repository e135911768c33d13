// The scrub's panel: how far it is, and the buttons that make sense now.

import { at, show, text } from './dom.js';
import { ago, count, duration, size } from './words.js';

const PHASES = {
  starting: 'starting', drives: 'looking at the drives', rebuilding: 'rebuilding what is missing', stripes: 'verifying stripes',
  checkpoints: 'verifying checkpoints', journals: 'verifying journals', leftovers: 'looking for leftovers',
  metadata: 'verifying the metadata',
};

export function renderScrub(view) {
  const { scrub } = view.status;
  const running = scrub.running;
  const waits = scrub.paused || scrub.interrupted;
  text(at('scrub-said'), said(scrub, view.now));
  bar(at('scrub-bar'), scrub.progress);
  text(at('scrub-more'), more(scrub));
  buttons({ start: !running && !waits, pause: running, resume: waits && !running, cancel: running || waits });
  replacement(view.status.replace);
  text(at('drill-said'), drill(view));
}

/** Whoever works by keyboard must not be thrown to the top when the button that was pressed goes. */
function buttons(wanted) {
  const all = Object.keys(wanted).map((name) => at(`scrub-${name}`));
  const had = all.indexOf(document.activeElement);
  Object.values(wanted).forEach((yes, number) => show(all[number], yes));
  if (had >= 0 && all[had].hidden) all.find((button) => !button.hidden).focus();
}

function said(scrub, now) {
  if (scrub.running) return `Running: ${PHASES[scrub.progress.phase] ?? scrub.progress.phase}`;
  if (scrub.paused) return 'Paused';
  if (scrub.interrupted) return 'Interrupted; it can go on from there';
  if (scrub.last_finished === null) return 'Nothing was ever verified as a whole';
  return `Everything was last verified ${ago(scrub.last_finished, now)}`;
}

function bar(element, progress) {
  show(element, progress !== null);
  if (progress === null) return;
  if (progress.bytes_total) element.value = progress.bytes_done / progress.bytes_total;
  else element.removeAttribute('value');
}

function more(scrub) {
  if (scrub.progress !== null) return howFar(scrub.progress);
  if (scrub.paused || scrub.interrupted) return `${size(scrub.position)} were verified so far.`;
  if (scrub.checked === null) return 'A scrub reads every shard, and rebuilds what is damaged or missing.';
  return `${count(scrub.checked, 'shard')} checked, ${scrub.repaired.toLocaleString()} repaired.`;
}

function howFar(progress) {
  const parts = [`${size(progress.bytes_done)} of ${size(progress.bytes_total)}`];
  if (progress.rate > 0) parts.push(`${size(progress.rate)}/s`);
  parts.push(progress.eta_s === null ? 'time left: not known yet' : `${duration(progress.eta_s)} left`);
  if (progress.found) parts.push(`${count(progress.found, 'thing')} found wrong, ${progress.repaired} repaired`);
  return parts.join(' · ');
}

function replacement({ running, interrupted, slot, url, progress }) {
  show(at('replace-box'), running || interrupted);
  bar(at('replace-bar'), progress);
  if (interrupted) text(at('replace-said'), `Drive ${slot} was being replaced by ${url} when that was interrupted.`);
  if (running) text(at('replace-said'), [`Drive ${slot} is being replaced`, url && ` by ${url}`, progress && `: ${howFar(progress)}`].filter(Boolean).join(''));
}

function drill(view) {
  const { drill: last } = view.status;
  if (last.running) return 'Running: recoverability is being proven.';
  if (last.last_started === null) return `Never done. To prove what may be lost: ecfs drill ${view.name}`;
  const percent = Math.floor(last.proven * 1000) / 10;
  return `The loss of any ${view.status.pool.parity} drives: proven for ${percent} % of bytes, ${ago(last.last_started, view.now)}.`;
}
