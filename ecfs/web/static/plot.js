// A line plot over time. Values by pointer or arrow keys; where nothing was measured, the line is broken.

import { make, makeSvg, text } from './dom.js';

const HEIGHT = 190;
const LEAST = 1e-4;
const EDGE = { left: 74, right: 10, top: 10, bottom: 22 };

/** From 0 to the next power of two of bytes per second. */
export function linear(greatest) {
  const top = Math.max(2 ** 20, 2 ** Math.ceil(Math.log2(greatest || 1)));
  return { share: (value) => value / top, ticks: [0, top / 2, top] };
}

/** From 100 µs to at least 1 s, each step ten times the one below: what is fast and what is slow both can be read. */
export function logarithmic(greatest) {
  const decades = Math.max(4, Math.ceil(Math.log10(greatest / LEAST || 1)));
  const share = (value) => Math.min(1, Math.max(0, Math.log10(value / LEAST) / decades));
  return { share, ticks: Array.from({ length: decades + 1 }, (_, step) => LEAST * 10 ** step) };
}

export class Plot {
  /** options: title; format(value); scale: class of the vertical axis; lines: {name, of(point)} */
  constructor(figure, options) {
    this.options = options;
    this.points = [];
    this.chosen = null;
    this.values = options.lines.map(() => make('output', {}, '–'));
    const legend = options.lines.map((line, at) => make('span', { class: `key line-${at}` }, `${line.name} `, this.values[at]));
    this.when = make('span', { class: 'when' });
    this.svg = makeSvg('svg', { class: 'plot', height: HEIGHT, tabindex: 0, role: 'img' });
    figure.replaceChildren(
      make('figcaption', {}, make('strong', {}, options.title), make('span', { class: 'keys' }, ...legend, this.when)),
      this.svg);
    this.listen();
  }

  listen() {
    new ResizeObserver(() => this.draw()).observe(this.svg);
    this.svg.addEventListener('pointermove', (event) => {
      const inside = event.clientX - this.svg.getBoundingClientRect().left - EDGE.left;
      this.choose(Math.round((inside / this.inner()) * (this.size - 1)) - (this.size - this.points.length));
    });
    this.svg.addEventListener('pointerleave', () => this.choose(null));
    this.svg.addEventListener('blur', () => this.choose(null));
    this.svg.addEventListener('keydown', (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.choose((this.chosen ?? this.points.length) + step);
    });
  }

  choose(index) {
    const valid = index !== null && index >= 0 && index < this.points.length;
    this.chosen = valid ? index : null;
    this.draw();
  }

  /** points: oldest first; size: how many fit; now: seconds since 1970. */
  show(points, size, now) {
    if (this.chosen !== null) this.chosen = Math.max(0, this.chosen - (points.length === size ? 1 : 0));
    Object.assign(this, { points, size, now });
    this.draw();
  }

  inner() {
    return Math.max(50, this.svg.clientWidth - EDGE.left - EDGE.right);
  }

  draw() {
    if (!this.size || !this.svg.clientWidth) return;
    const { lines } = this.options;
    const series = lines.map((line) => this.points.map((point) => line.of(point)));
    const scale = this.options.scale(Math.max(0, ...series.flat().filter((value) => value !== null)));
    const x = (at) => EDGE.left + (this.inner() * (at + this.size - this.points.length)) / (this.size - 1);
    const y = (value) => EDGE.top + (HEIGHT - EDGE.top - EDGE.bottom) * (1 - scale.share(value));
    this.svg.replaceChildren(
      ...this.grid(scale.ticks, y), ...this.times(),
      ...series.map((values, at) => makeSvg('path', { class: `line line-${at}`, d: path(values, x, y) })),
      ...this.cross(x));
    this.tell(series);
  }

  grid(ticks, y) {
    const { left, right } = EDGE;
    return ticks.flatMap((value) => [
      makeSvg('line', { class: 'grid', x1: left, x2: this.svg.clientWidth - right, y1: y(value), y2: y(value) }),
      makeSvg('text', { class: 'tick', x: left - 8, y: y(value) + 4, 'text-anchor': 'end' }, value ? this.options.format(value) : '0'),
    ]);
  }

  times() {
    const day = this.size > 600;
    const labels = day ? ['24 h ago', '12 h', 'now'] : ['10 min ago', '5 min', 'now'];
    return labels.map((label, at) => makeSvg('text', {
      class: 'tick', x: EDGE.left + (this.inner() * at) / 2, y: HEIGHT - 4, 'text-anchor': ['start', 'middle', 'end'][at],
    }, label));
  }

  cross(x) {
    if (this.chosen === null) return [];
    const at = x(this.chosen);
    return [makeSvg('line', { class: 'cross', x1: at, x2: at, y1: EDGE.top, y2: HEIGHT - EDGE.bottom })];
  }

  tell(series) {
    const at = this.chosen ?? this.points.length - 1;
    const said = series.map((values) => (at < 0 || values[at] === null ? '–' : this.options.format(values[at])));
    said.forEach((value, line) => text(this.values[line], value));
    const point = this.points[at];
    text(this.when, this.chosen === null || !point ? '' : new Date(point.at * 1000).toLocaleTimeString());
    const words = this.options.lines.map((line, number) => `${line.name} ${said[number]}`).join(', ');
    this.svg.setAttribute('aria-label', `${this.options.title}: ${words}. Arrow keys show earlier values.`);
  }
}

/** What an SVG path draws; broken where a value is null. */
export function path(values, x, y) {
  let pen = 'M';
  return values.map((value, at) => {
    if (value === null) {
      pen = 'M';
      return '';
    }
    const step = `${pen}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    // A lone point between gaps would be invisible without a length.
    const alone = pen === 'M' && (values[at + 1] ?? null) === null;
    pen = 'L';
    return alone ? `${step}h0.01` : step;
  }).join('');
}
