// The verdict, the drives, redundancy and events. Scrub and plots have files of their own.

import { at, make, makeSvg, remake, show, text } from './dom.js';
import { path } from './plot.js';
import { count, duration, latency, moment, sentence, size } from './words.js';

const TITLES = { healthy: 'Healthy', degraded: 'Degraded', failed: 'Failed' };
const SPARK = 90;
const KINDS = {
  directory: ['directory', 'M3 3.5h10a1 1 0 0 1 1 1v7a1 1 0 0 1-1 1H3a1 1 0 0 1-1-1v-7a1 1 0 0 1 1-1zM2 9h12M11 11h1'],
  node: ['storage node', 'M3 2.5h10v4H3zM3 9.5h10v4H3zM11 4.5h0M11 11.5h0M5 4.5h2M5 11.5h2'],
  bucket: ['bucket', 'M2.5 4l1.5 9.5h8L13.5 4zM2.5 4c0 1 11 1 11 0s-11-1-11 0z'],
};

export function render(view, points) {
  const { status } = view;
  // A pool that is whole and full is healthy, and still needs a person.
  document.body.dataset.state = status.state === 'healthy' && view.verdict.causes.length ? 'degraded' : status.state;
  document.title = `${TITLES[status.state]} – ${view.name} – ecfs`;
  text(at('pool-name'), view.name);
  text(at('mountpoint'), status.pool.mountpoint ? `mounted on ${status.pool.mountpoint}` : '');
  text(at('version'), `ecfs ${view.version}`);
  verdict(view);
  drives(view, points);
  redundancy(status);
  space(status.capacity);
  events(view);
}

// ---- the verdict: first what, then why, then what to type --------------------------------------------------

function verdict({ status, verdict: said }) {
  text(at('state'), TITLES[status.state]);
  text(at('headline'), sentence(said.headline));
  text(at('means'), sentence(said.means));
  list(at('causes'), said.causes, said.evidence);
  show(at('causes-box'), said.causes.length + said.evidence.length > 0);
  remake(at('actions'), said.actions, () => said.actions.map(action));
  list(at('remarks'), status.risks.map((each) => `risk: ${each}`), status.notes.map((each) => `note: ${each}`));
}

/** Sentences, the second kind quieter. */
function list(element, loud, quiet) {
  remake(element, [loud, quiet], () => [
    ...loud.map((each) => make('li', {}, sentence(each))), ...quiet.map((each) => make('li', { class: 'quiet' }, sentence(each))),
  ]);
}

/** "rebuild it: ecfs scrub /pool" → the sentence, and the command to copy. */
function action(words) {
  const found = /^(?:(.*): )?(ecfs [^;]+)$/s.exec(words);
  if (!found) return make('li', {}, sentence(words));
  const [, before, command] = found;
  const copy = make('button', { type: 'button', class: 'copy', 'aria-label': `Copy: ${command}` }, 'Copy');
  copy.addEventListener('click', async () => {
    await navigator.clipboard.writeText(command);
    text(copy, 'Copied');
    setTimeout(() => text(copy, 'Copy'), 1500);
  });
  const row = make('span', { class: 'command' }, make('code', {}, command));
  if (navigator.clipboard) row.append(copy);
  return make('li', {}, before ? `${sentence(before)}:` : '', row);
}

// ---- drives ---------------------------------------------------------------------------------------------------

function drives(view, points) {
  const list = at('drives');
  const all = view.status.drives;
  if (list.children.length !== all.length) list.replaceChildren(...all.map(bay));
  all.forEach((drive, position) => {
    showDrive(list.children[position], drive, view, points.slice(-SPARK).map((point) => point.drives[drive.slot] ?? null));
  });
}

function bay() {
  const line = makeSvg('path', { class: 'spark-line' });
  return make('li', { class: 'bay' },
    make('div', { class: 'front' },
      make('span', { class: 'slot' }), make('span', { class: 'led', 'aria-hidden': 'true' }), make('span', { class: 'drive-state' })),
    make('div', { class: 'place' }, makeSvg('svg', { class: 'kind', viewBox: '0 0 16 16', role: 'img' }, makeSvg('path')), make('span', { class: 'end' }, make('bdi', { class: 'url' }))),
    make('div', { class: 'reason' }),
    make('div', { class: 'fill', role: 'img' }, make('span', {})),
    make('div', { class: 'room' }),
    makeSvg('svg', { class: 'spark', viewBox: `0 0 ${SPARK} 24`, preserveAspectRatio: 'none', 'aria-hidden': 'true' }, line),
    make('div', { class: 'figures' }));
}

function showDrive(element, drive, view, recent) {
  const part = (name) => element.querySelector(`.${name}`);
  element.dataset.state = drive.usable ? drive.state : drive.state === 'online' ? 'absent' : drive.state;
  text(part('slot'), `Drive ${drive.slot}`);
  text(part('drive-state'), drive.state);
  text(part('url'), drive.url);
  element.dataset.kind = drive.url.startsWith('/') ? 'directory' : drive.url.startsWith('s3://') ? 'bucket' : 'node';
  part('url').title = drive.url;
  const [kind, drawing] = KINDS[element.dataset.kind];
  part('kind').setAttribute('aria-label', kind);
  part('kind').firstElementChild.setAttribute('d', drawing);
  text(part('reason'), reason(drive, view.now));
  room(part('fill'), part('room'), drive);
  spark(part('spark-line'), recent);
  text(part('figures'), figures(drive, recent));
}

function reason(drive, now) {
  if (drive.state === 'online') return drive.reason;
  const long = drive.since === null ? '' : `for ${duration(now - drive.since)}`;
  return [drive.reason, long].filter(Boolean).join(', ');
}

function room(bar, label, drive) {
  const known = drive.usable && drive.total;
  show(bar, Boolean(known));
  text(label, known ? `${drive.full ? 'full, ' : ''}${size(drive.free)} free of ${size(drive.total)}` : '');
  label.classList.toggle('bad', Boolean(known && drive.full));
  if (!known) return;
  const used = 1 - drive.free / drive.total;
  bar.firstElementChild.style.width = `${(used * 100).toFixed(1)}%`;
  bar.classList.toggle('tight', used > 0.9);
  bar.setAttribute('aria-label', `${Math.round(used * 100)} % used`);
}

/** The drive's recent latency on a logarithmic scale, 100 µs at the bottom, 10 s at the top. */
function spark(line, recent) {
  const height = (seconds) => 23 - 22 * Math.min(1, Math.max(0, Math.log10(seconds / 1e-4) / 5));
  line.setAttribute('d', path(recent, (at) => at + SPARK - recent.length, height));
}

function figures(drive, recent) {
  const errors = Object.values(drive.errors).reduce((sum, each) => sum + each, 0);
  const newest = recent.findLast((each) => each !== null);
  const parts = [];
  if (drive.usable) parts.push(newest === undefined ? 'idle' : `answers in ${latency(newest)}`);
  if (errors) parts.push(count(errors, 'error'));
  return parts.join(' · ');
}

// ---- redundancy, space ------------------------------------------------------------------------------------------

const PARTS = [
  ['full', 'all shards', 'full'],
  ['missing', 'lack a shard', 'missing'],
  ['unknown', 'to be verified', 'unknown'],
  ['lost', 'not decodable', 'lost'],
];

function redundancy(status) {
  const { stripes, may_lose: more, commits } = status;
  const drives = more ? `${count(more, 'more drive')} may be lost` : 'no more drive may be lost';
  text(at('redundancy-said'), sentence(commits.stalled ? `of what is stored already, ${drives}` : drives));
  if (!stripes.total) {
    text(at('stripes-legend'), stripes.total === null ? 'Stripes can’t be counted now.' : 'No stripes yet: small files are kept with the metadata.');
    show(at('stripes'), false);
    return;
  }
  show(at('stripes'), true);
  const there = PARTS.filter(([key]) => stripes[key]);
  remake(at('stripes'), stripes, () => there.map(([key, , name]) => {
    const part = make('span', { class: name });
    part.style.flexGrow = stripes[key];
    return part;
  }));
  at('stripes').setAttribute('aria-label', there.map(([key, words]) => `${stripes[key]} stripes: ${words}`).join(', '));
  remake(at('stripes-legend'), [stripes, 'legend'], () => PARTS.filter(([key]) => stripes[key] || key === 'full').flatMap(([key, words, name]) => [
    make('dt', { class: name }, words), make('dd', {}, `${stripes[key] === null ? 'counting' : stripes[key].toLocaleString()} of ${stripes.total.toLocaleString()}`),
  ]));
}

function space(capacity) {
  const known = capacity.total !== null && capacity.total > 0;
  show(at('space'), known);
  if (!known) {
    text(at('space-said'), 'How much room there is can’t be said now.');
    return;
  }
  const used = Math.min(1, capacity.used / (capacity.used + capacity.free || 1));
  remake(at('space'), used.toFixed(3), () => {
    const part = make('span', { class: used > 0.9 ? 'missing' : 'used' });
    part.style.flexBasis = `${used * 100}%`;
    return [part];
  });
  at('space').setAttribute('aria-label', `${Math.round(used * 100)} % used`);
  text(at('space-said'), `${size(capacity.used)} used by ${count(capacity.files, 'file')}, ${size(capacity.free)} free`);
}

// ---- events -----------------------------------------------------------------------------------------------------

function events(view) {
  const newest = view.events.toReversed();
  remake(at('events'), newest, () => (newest.length ? newest.map((event) => row(event, view.now)) : [make('li', { class: 'quiet' }, 'Nothing has happened since the pool was mounted.')]));
}

function row(event, now) {
  const stamp = new Date(event.at * 1000).toISOString();
  return make('li', { 'data-kind': event.kind },
    make('time', { datetime: stamp }, moment(event.at, now)),
    make('span', { class: 'what' }, event.slot === null ? 'pool' : `drive ${event.slot}`),
    make('span', { class: 'text' }, event.text));
}
