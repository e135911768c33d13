// Putting things on the page. Whatever comes from the pool becomes a text node, never markup.

export function at(id) {
  return document.getElementById(id);
}

/** An element: make('p', {class: 'quiet'}, 'text', child, …) */
export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function makeSvg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Only what changed is written: a screen reader announces every change of a live region. */
export function text(element, wanted) {
  if (element.textContent !== wanted) element.textContent = wanted;
}

export function show(element, wanted) {
  if (element.hidden === wanted) element.hidden = !wanted;
}

const shown = new WeakMap();

/** Replace the children, but only if `data`, of which they are made, has changed: focus and selection stay. */
export function remake(element, data, build) {
  const key = JSON.stringify(data);
  if (shown.get(element) === key) return;
  shown.set(element, key);
  element.replaceChildren(...build());
}
