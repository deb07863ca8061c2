/** Reading and writing the document, and touching only what changes. */

export const byId = (id) => document.getElementById(id);

/** Set an element's text. */
export function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
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
