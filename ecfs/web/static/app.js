// The page asks once per second, shows what it is told, and sends what a button says.

import { at, show, text } from './dom.js';
import { Plot, linear, logarithmic } from './plot.js';
import { render } from './render.js';
import { renderScrub } from './scrub.js';
import { latency, size } from './words.js';

const EVERY_MS = 1000;
const PATIENCE_MS = 8000;
const KEPT = { minutes: 300, day: 1440 };
const OURS = { 'X-Ecfs': 'page' };

const plots = [
  new Plot(at('plot-throughput'), {
    title: 'Throughput',
    format: (value) => `${size(value)}/s`,
    scale: linear,
    lines: [
      { name: 'read', of: (point) => point.read },
      { name: 'write', of: (point) => point.write },
    ],
  }),
  new Plot(at('plot-latency'), {
    title: 'Latency, 95 of 100 are faster',
    format: latency,
    scale: logarithmic,
    lines: ['read', 'write', 'fsync'].map((name) => ({ name, of: (point) => point.latency[name] })),
  }),
];

const state = { ring: 'minutes', points: [], since: 0, timer: 0 };

async function ask(path, options = {}) {
  return fetch(path, { ...options, signal: AbortSignal.timeout(PATIENCE_MS) });
}

async function look() {
  clearTimeout(state.timer);
  const ring = state.ring;
  const last = state.points.at(-1);
  try {
    const answer = await ask(`/api/view?ring=${ring}&after=${last ? last.number : 0}`);
    if (answer.status === 401) {
      needToken();
      return;
    }
    if (!answer.ok) throw new Error(String(answer.status));
    const view = await answer.json();
    if (ring === state.ring) take(view);
    reached(true);
  } catch {
    reached(false);
  }
  state.timer = setTimeout(look, EVERY_MS);
}

function take(view) {
  // A daemon that was started anew counts from one again.
  const [first] = view.points;
  const last = state.points.at(-1);
  if (first && last && first.number <= last.number) state.points = [];
  state.points = [...state.points, ...view.points].slice(-KEPT[state.ring]);
  show(at('main'), true);
  show(at('login'), false);
  render(view, state.points);
  renderScrub(view);
  for (const plot of plots) plot.show(state.points, KEPT[state.ring], view.now);
}

function reached(yes) {
  const live = at('live');
  if (yes) state.since = 0;
  else if (!state.since) state.since = Date.now();
  live.dataset.live = yes ? 'yes' : 'no';
  document.body.classList.toggle('stale', !yes);
  text(live, yes ? 'live' : 'no answer from the daemon: what you see is old');
}

function needToken() {
  show(at('main'), false);
  show(at('login'), true);
  text(at('live'), 'locked');
  at('token').focus();
}

async function login(event) {
  event.preventDefault();
  const body = JSON.stringify({ token: at('token').value.trim() });
  const answer = await send('/api/login', body);
  text(at('login-said'), answer);
  if (!answer) {
    at('token').value = '';
    look();
  }
}

/** Why it was not done; "" if it was. */
async function send(path, body = '') {
  try {
    const answer = await ask(path, { method: 'POST', headers: OURS, body });
    if (answer.ok) return '';
    const said = await answer.json().catch(() => ({}));
    return said.error || `not done (${answer.status})`;
  } catch {
    return 'no answer from the daemon';
  }
}

async function press(button, action) {
  button.setAttribute('aria-disabled', 'true');
  text(at('scrub-answer'), '');
  text(at('scrub-answer'), await send(`/api/scrub/${action}`));
  button.removeAttribute('aria-disabled');
  await look();
}

function choose(ring) {
  state.ring = ring;
  state.points = [];
  for (const name of Object.keys(KEPT)) at(`ring-${name}`).setAttribute('aria-pressed', String(name === ring));
  look();
}

for (const action of ['start', 'pause', 'resume', 'cancel']) {
  const button = at(`scrub-${action}`);
  button.addEventListener('click', () => {
    if (button.getAttribute('aria-disabled') !== 'true') press(button, action);
  });
}
for (const ring of Object.keys(KEPT)) at(`ring-${ring}`).addEventListener('click', () => choose(ring));
at('login').addEventListener('submit', login);
document.addEventListener('visibilitychange', () => {
  // A page that nobody sees asks for nothing.
  clearTimeout(state.timer);
  if (!document.hidden) look();
});
look();
