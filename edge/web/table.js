/** Pipe tables, row by row (GitHub Flavored Markdown §4.10, for rows that begin with a pipe). */

import { el } from "./dom.js";
import { inlineNodes } from "./inline.js";

const DELIMITER = /^\|?(\s*:?-+:?\s*\|)+(\s*:?-+:?\s*)?$/;

/** @param {string} line */
export function isDelimiterRow(line) {
  return DELIMITER.test(line.trim());
}

/** @returns {string[]} the cells of a row; `\|` and pipes in code spans do not separate */
function cells(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/\|$/, "");
  const found = inner.match(/(?:\\.|`[^`]*`|[^|])+|(?<=\|)(?=\|)/gs) ?? [];
  return found.map((cell) => cell.trim().replaceAll("\\|", "|"));
}

export class Table {
  #body = el("tbody");
  #align;

  /**
   * @param {Element} parent
   * @param {string} header
   * @param {string} delimiter
   */
  constructor(parent, header, delimiter) {
    this.#align = cells(delimiter).map((mark) => (mark.endsWith(":") ? (mark.startsWith(":") ? "mid" : "end") : null));
    const head = el("thead", {}, this.#row(header, "th"));
    parent.append(el("div", { class: "table", tabindex: "0", role: "region", "aria-label": "Table" }, el("table", {}, head, this.#body)));
  }

  /** @param {string} line */
  append(line) {
    this.#body.append(this.#row(line, "td"));
  }

  #row(line, tag) {
    const scope = tag === "th" ? "col" : null;
    return el("tr", {}, ...cells(line).map((cell, i) => el(tag, { scope, class: this.#align[i] }, ...inlineNodes(cell))));
  }
}
