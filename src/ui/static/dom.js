/** Reading and writing the document, and touching only what changes. */

export const byId = (id) => document.getElementById(id);

/** Set an element's text. */
export function put(node, text) {
  if (node.textContent === text) return;
  const { firstChild } = node;
  // Another text in the same node is less work for the browser than another node.
  if (text && firstChild && firstChild === node.lastChild && firstChild.nodeType === Node.TEXT_NODE) firstChild.data = text;
  else node.textContent = text;
}

/** Have an element there, or not. */
export function reveal(node, shown) {
  if (node.hidden === shown) node.hidden = !shown;
}

/** Set what the style sheet goes by, as `data-name`. */
export function mark(node, name, value) {
  if (node.dataset[name] !== String(value)) node.dataset[name] = value;
}

/** Set what is said when the pointer rests on an element. */
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

/** A new element with a class and children, which are elements or texts. */
export function element(name, className, ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...children);
  return node;
}
