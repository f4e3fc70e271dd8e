/**
 * Markdown that grows: each character is taken in once and added to the block that is open.
 *
 * The subset is what models write: paragraphs, headings, lists, quotes, fenced code, rules, tables, inline marks.
 * Raw HTML is shown as the text it is. How the text was cut into pushes makes no difference to the result.
 */

import { CodeBlock } from "./codeblock.js";
import { el } from "./dom.js";
import { InlineStream, inlineNodes } from "./inline.js";
import { Table, isDelimiterRow } from "./table.js";

const FENCE = /^(`{3,}|~{3,})([^`]*)$/;
const RULE = /^([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const HEADING = /^(#{1,6})[ \t]+/;
const ITEM = /^([-*+]|(\d{1,9})[.)])[ \t]+(?=\S)/;
const TASK = /^\[([ xX])\] (?=\S)/;
const TASK_PREFIX = /^\[([ xX](\] *)?)?$/;
/** The start of a line that could still become one of the above. */
const UNDECIDED = /^(#{0,6}|[-*_ \t]+|\+ *|\d{1,9}([.)][ \t]*)?|`{0,2}|~{0,2}|#{1,6}[ \t]+)$/;

export class MarkdownStream {
  #root;
  #items = []; // open list items, outermost first: {list, body, indent, kind}
  #leaf = null; // the block that takes text: {kind, append, end?}
  #held = ""; // the start of a line whose kind is not known yet
  #sink = null; // takes the rest of the current line
  #blank = false;

  /** @param {Element} root */
  constructor(root) {
    this.#root = root;
  }

  /** @param {string} text */
  push(text) {
    const lines = text.replaceAll("\r", "").split("\n");
    lines.forEach((piece, i) => {
      this.#piece(piece, i < lines.length - 1);
      if (i < lines.length - 1) this.#sink = null;
    });
  }

  /** Nothing follows: close what is open. */
  end() {
    if (this.#held) this.#piece("", true);
    this.#close();
  }

  #piece(piece, complete) {
    if (!this.#sink) this.#held = this.#begin(this.#held + piece, complete);
    else if (piece) this.#sink(piece);
  }

  /** Find out what the line is and set its sink. Gives back the text to hold while more is needed to know. */
  #begin(raw, complete) {
    const line = raw.replace(/^[ \t]+/, "");
    const indent = raw.slice(0, raw.length - line.length).replaceAll("\t", "    ").length;
    if (this.#leaf?.kind === "fence") return this.#inFence(raw, line, indent, complete);
    if (!line) return complete ? this.#blankLine() : raw;
    if (this.#leaf?.kind === "row") {
      if (!complete && /^[|:-]/.test(line)) return raw;
      if (complete && isDelimiterRow(line)) return this.#table(line);
      this.#close();
    }
    if (line[0] === "|") return complete ? this.#row(line, indent) : raw;
    if (!complete && (UNDECIDED.test(line) || /^(`{3}|~{3})/.test(line))) return raw;
    const fence = complete && FENCE.exec(line);
    if (fence) return this.#fence(fence, indent);
    if (complete && RULE.test(line)) return this.#rule(indent);
    const heading = HEADING.exec(line);
    if (heading) return this.#heading(line, heading, indent);
    if (line[0] === ">") return this.#quote(line, indent);
    const item = ITEM.exec(line);
    if (item) return this.#item(raw, line, item, indent, complete);
    return this.#text(line, indent);
  }

  #blankLine() {
    this.#blank = true;
    this.#close();
    return "";
  }

  #text(line, indent) {
    if (this.#leaf?.kind !== "text") {
      this.#container(indent);
      const paragraph = el("p");
      this.#into().append(paragraph);
      this.#leaf = inlineLeaf("text", paragraph);
    } else this.#leaf.append("\n");
    return this.#flow(line);
  }

  #heading(line, [mark, hashes], indent) {
    this.#container(indent);
    const node = el(`h${Math.min(6, hashes.length + 2)}`, { class: `level-${hashes.length}` });
    this.#into().append(node);
    this.#leaf = inlineLeaf("heading", node);
    return this.#flow(line.slice(mark.length));
  }

  #rule(indent) {
    this.#container(indent);
    this.#into().append(el("hr"));
    return "";
  }

  #quote(line, indent) {
    if (this.#leaf?.kind !== "quote") {
      this.#container(indent);
      const node = el("blockquote");
      this.#into().append(node);
      const inner = new MarkdownStream(node);
      this.#leaf = { kind: "quote", append: (text) => inner.push(text), end: () => inner.end() };
    } else this.#leaf.append("\n");
    if (line.length < 2) {
      // The blank after the mark is not text, and may come with the next push.
      this.#sink = (text) => this.#flow(text.replace(/^ /, ""));
      return "";
    }
    return this.#flow(line.slice(line[1] === " " ? 2 : 1));
  }

  #item(raw, line, [mark, bullet, number], indent, complete) {
    const rest = line.slice(mark.length);
    if (!complete && TASK_PREFIX.test(rest)) return raw;
    this.#close();
    const kind = number === undefined ? "ul" : "ol";
    while (this.#items.length && indent < this.#items.at(-1).indent) this.#items.pop();
    let sibling = this.#items.at(-1);
    if (sibling && indent < sibling.indent + 2) {
      this.#items.pop();
      if (sibling.kind !== kind) sibling = null;
    } else sibling = null;
    const list = sibling?.list ?? el(kind, { start: kind === "ol" && number !== "1" ? Number(number) : null });
    if (!sibling) this.#into().append(list);
    else if (this.#blank) list.classList.add("loose");
    const task = TASK.exec(rest);
    const body = el("li", { class: task ? "task" : null });
    if (task) body.append(el("span", { class: "box", role: "img", "aria-label": task[1] === " " ? "To do:" : "Done:" }, task[1] === " " ? "☐" : "☑"));
    list.append(body);
    this.#items.push({ list, body, indent, kind });
    // What follows the bullet is a line of its own, as far in as the item's text.
    return this.#begin(" ".repeat(indent + bullet.length + 1) + (task ? rest.slice(4) : rest), complete);
  }

  /** A first row waits for the next line, which says whether there is a table. Rows are shown whole. */
  #row(line, indent) {
    if (this.#leaf?.kind === "table") this.#leaf.append(line);
    else {
      this.#container(indent);
      const parent = this.#into();
      const end = () => parent.append(el("p", {}, ...inlineNodes(line)));
      this.#leaf = { kind: "row", line, parent, end };
    }
    return "";
  }

  #table(delimiter) {
    const { line, parent } = this.#leaf;
    const table = new Table(parent, line, delimiter);
    this.#leaf = { kind: "table", append: (row) => table.append(row) };
    return "";
  }

  #fence([, fence, info], indent) {
    this.#container(indent);
    const block = new CodeBlock(this.#into(), info.trim().split(/[\s{]/)[0]);
    this.#leaf = { kind: "fence", fence, indent, first: true, append: (text) => block.append(text) };
    return "";
  }

  #inFence(raw, line, indent, complete) {
    const { fence, indent: own } = this.#leaf;
    const mark = fence[0];
    let run = 0;
    while (line[run] === mark) run += 1;
    const onlyMarks = line.slice(run).trim() === "";
    if (!complete && onlyMarks) return raw; // blank so far, or the closing fence on its way
    if (run >= fence.length && onlyMarks) {
      this.#leaf = null;
      return "";
    }
    if (!this.#leaf.first) this.#leaf.append("\n");
    this.#leaf.first = false;
    const spaces = raw.length - line.length;
    return this.#flow(raw.slice(Math.min(own, indent, spaces)));
  }

  /** Leave the list items that a line with this indent does not belong to. */
  #container(indent) {
    this.#close();
    while (this.#items.length && indent < this.#items.at(-1).indent + 2) this.#items.pop();
    this.#blank = false;
  }

  #into() {
    return this.#items.at(-1)?.body ?? this.#root;
  }

  #flow(text) {
    const leaf = this.#leaf;
    this.#sink = (more) => leaf.append(more);
    if (text) leaf.append(text);
    return "";
  }

  #close() {
    const leaf = this.#leaf;
    this.#leaf = null;
    leaf?.end?.();
  }
}

function inlineLeaf(kind, node) {
  const inline = new InlineStream(node);
  return { kind, append: (text) => inline.append(text), end: () => inline.end() };
}
