/** Helpers that write to the document only if something changes. */

export const byId = (id) => document.getElementById(id);

/** Set an element's text. */
export function put(node, text) {
  if (node.textContent === text) return;
  const { firstChild } = node;
  // Changing the text of a node is cheaper than replacing the node.
  if (text && firstChild && firstChild === node.lastChild && firstChild.nodeType === Node.TEXT_NODE) firstChild.data = text;
  else node.textContent = text;
}

/** Show or hide an element. */
export function reveal(node, shown) {
  if (node.hidden === shown) node.hidden = !shown;
}

/** Set the attribute `data-name` of an element, for the style sheets. */
export function mark(node, name, value) {
  if (node.dataset[name] !== String(value)) node.dataset[name] = value;
}

/** Set the tooltip of an element. */
export function hint(node, text) {
  if (node.title !== text) node.title = text;
}

/** A text node that is written only when its text changes. */
export class Text {
  constructor(element) {
    this.node = element.appendChild(document.createTextNode(""));
    this.text = "";
  }

  set(text) {
    if (text === this.text) return;
    this.text = text;
    this.node.data = text;
  }
}

/** Create an element with a class and children, which are elements or texts. */
export function element(name, className, ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...children);
  return node;
}
