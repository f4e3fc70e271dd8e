/** A fenced code block: its language, a copy button, and one text node that grows. */

import { el } from "./dom.js";
import { copyButton } from "./icons.js";

export class CodeBlock {
  #text = document.createTextNode("");

  /**
   * @param {Element} parent
   * @param {string} language as written after the fence; "" when nothing was
   */
  constructor(parent, language) {
    const label = el("span", { class: "lang", text: language || "text" });
    const code = el("code", {}, this.#text);
    const head = el("figcaption", {}, label, copyButton("Copy code", () => this.#text.data));
    parent.append(el("figure", { class: "code" }, head, el("pre", { tabindex: "0", "aria-label": "Code" }, code)));
  }

  /** @param {string} text */
  append(text) {
    this.#text.appendData(text);
  }
}
