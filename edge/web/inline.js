/**
 * Inline markdown that grows: emphasis, code, links and line breaks inside one block.
 *
 * Text that can no longer change its meaning is settled: its nodes stay. Only the tail, from the first opener
 * without a closer, is drawn anew when text is added, and the tail is bounded.
 */

import { el } from "./dom.js";

const MAX_TAIL = 1500;
const WORD = /[\p{L}\p{N}]/u;
const SPECIAL = /[\\`*_~[!<\n]|h/g;
const RUN = /\*+|_+|`+|~+|[^]/y;
const URL_START = /^https?:\/\//;
const URL_PREFIX = /^h(t(t(p(s?(:\/?)?)?)?)?)?$/;
const BREAK = /^<br ?\/?>/i;
const ANGLE = /^<(https?:\/\/[^\s<>]+)>/;
const ANGLE_PREFIX = /^<(b(r ?\/?)?|h(t(t(p(s?(:(\/(\/[^\s<>]*)?)?)?)?)?)?)?)?$/i;
const TAGS = { "**": "strong", __: "strong", "*": "em", _: "em", "~~": "del" };
const OPEN = Symbol("needs more text to decide");

/** Appends inline markdown to `parent`. */
export class InlineStream {
  #parent;
  #tail = "";
  #before = ""; // the last settled character: an underscore after a letter opens nothing
  #loose = []; // nodes of the tail

  /** @param {Element} parent */
  constructor(parent) {
    this.#parent = parent;
  }

  /** @param {string} text */
  append(text) {
    this.#draw(this.#tail + text, false);
  }

  /** Nothing follows: what is still open is literal. */
  end() {
    if (this.#tail) this.#draw(this.#tail, true);
  }

  #draw(source, final) {
    for (const node of this.#loose) node.remove();
    this.#loose = [];
    this.#tail = this.#settle(source, final);
    if (this.#tail.length > MAX_TAIL) this.#tail = this.#settle(this.#tail, true);
    if (this.#tail) {
      this.#loose = [...provisional(this.#tail)];
      this.#parent.append(...this.#loose);
    }
  }

  /** Draw what is certain and give back the rest. */
  #settle(source, final) {
    const { nodes, settled } = parse(source, final, this.#before);
    for (const node of nodes) place(this.#parent, node);
    if (settled > 0) this.#before = source[settled - 1];
    return source.slice(settled);
  }
}

/** Whole text at once, for places that do not grow (table cells, link labels). */
export function inlineNodes(text, before = "") {
  return parse(text, true, before).nodes;
}

function place(parent, node) {
  const last = parent.lastChild;
  if (node.nodeType === Node.TEXT_NODE && last?.nodeType === Node.TEXT_NODE) last.appendData(node.data);
  else parent.append(node);
}

/** The tail as it will probably be: an open `**` is drawn as bold already, an open link as its source. */
function* provisional(tail) {
  const mark = /^(\*\*|__|~~|\*|_|`+)(?=\S)/.exec(tail)?.[0];
  if (!mark) {
    if (!/^[*_~`\\!\n]+$/.test(tail)) yield document.createTextNode(tail);
    return;
  }
  const inner = tail.slice(mark.length).replace(/[*_~`]+$/, "");
  if (mark[0] === "`") yield el("code", { text: inner });
  else yield el(TAGS[mark], {}, ...inlineNodes(inner));
}

/**
 * @returns {{nodes: Node[], settled: number}} nodes for source[0:settled]; when `final`, that is all of it
 */
function parse(source, final, before) {
  const nodes = [];
  let plain = "";
  let i = 0;
  const flush = () => {
    if (plain) nodes.push(document.createTextNode(plain));
    plain = "";
  };
  for (;;) {
    SPECIAL.lastIndex = i;
    const at = SPECIAL.exec(source)?.index ?? source.length;
    plain += source.slice(i, at);
    i = at;
    if (i === source.length) break;
    const found = construct(source, i, i ? source[i - 1] : before, final);
    if (found === OPEN && !final) break;
    if (found === OPEN || found === null) {
      RUN.lastIndex = i;
      const run = RUN.exec(source)[0];
      plain += run;
      i += run.length;
    } else {
      if (typeof found.node === "string") plain += found.node;
      else {
        flush();
        nodes.push(found.node);
      }
      i = found.next;
    }
  }
  flush();
  return { nodes, settled: i };
}

/** What starts at `i`: a node and where to go on, OPEN, or null for a literal character. */
function construct(source, i, prev, final) {
  const follows = source[i + 1];
  switch (source[i]) {
    case "\n":
      return follows === undefined ? OPEN : { node: el("br"), next: i + 1 };
    case "\\":
      if (follows === undefined) return OPEN;
      return /[!-/:-@[-`{-~]/.test(follows) ? { node: follows, next: i + 2 } : null;
    case "`":
      return codeSpan(source, i, final);
    case "*":
    case "_":
    case "~":
      return emphasis(source, i, prev, final);
    case "!":
      if (follows === undefined) return OPEN;
      return follows === "[" ? link(source, i + 1) : null; // an image becomes a link: nothing is fetched
    case "[":
      return link(source, i);
    case "<":
      return angle(source.slice(i), i);
    default:
      return bareUrl(source, i, prev, final);
  }
}

function codeSpan(source, i, final) {
  const runs = /`+/g;
  runs.lastIndex = i;
  const ticks = runs.exec(source)[0];
  let run = runs.exec(source);
  while (run && run[0] !== ticks) run = runs.exec(source);
  if (!run || (!final && runs.lastIndex === source.length)) return OPEN; // a run at the end may still grow
  let text = source.slice(i + ticks.length, run.index).replaceAll("\n", " ");
  if (text.startsWith(" ") && text.endsWith(" ") && text.trim()) text = text.slice(1, -1);
  return { node: el("code", { text }), next: runs.lastIndex };
}

function emphasis(source, i, prev, final) {
  const char = source[i];
  let start = i;
  while (source[start] === char) start += 1;
  const run = start - i;
  if (start === source.length) return OPEN;
  if (run > 3 || /\s/.test(source[start]) || (char === "~" && run !== 2)) return null;
  if (char === "_" && prev && WORD.test(prev)) return null;
  const close = closer(source, start, char, run, final);
  if (close < 0 || (!final && close + run === source.length)) return OPEN;
  const inner = inlineNodes(source.slice(start, close), char);
  const node = run === 3 ? el("strong", {}, el("em", {}, ...inner)) : el(TAGS[char.repeat(run)], {}, ...inner);
  return { node, next: close + run };
}

/** Where `count` marks close, skipping escapes, code spans and runs of another length; -1 when they do not (yet). */
function closer(source, from, char, count, final) {
  for (let i = from; i < source.length; i += 1) {
    if (source[i] === "\\") i += 1;
    else if (source[i] === "`") {
      const span = codeSpan(source, i, final);
      if (span === OPEN && !final) return -1;
      if (span === OPEN) while (source[i + 1] === "`") i += 1;
      else i = span.next - 1;
    } else if (source[i] === char) {
      let end = i;
      while (source[end] === char) end += 1;
      const closes = i > from && !/\s/.test(source[i - 1]) && !(char === "_" && WORD.test(source[end] ?? ""));
      if (closes && end - i === count) return i;
      if (closes && end - i === 3) return i + 3 - count; // "**a *b***": the inner mark closes first
      i = end - 1;
    }
  }
  return -1;
}

function link(source, i) {
  const label = /^\[((?:[^[\]\\]|\\.|\[[^[\]]*\])*)(\]?)(\(?)/s.exec(source.slice(i));
  if (!label[2]) return OPEN;
  const end = i + label[0].length;
  if (!label[3]) return end === source.length ? OPEN : null;
  const rest = source.slice(end);
  const target = /^<?([^\s<>()]*(?:\([^\s()]*\)[^\s<>()]*)*)>?(?:[ \t]+"[^"\n]*")?[ \t]*\)/.exec(rest);
  if (!target) return rest.includes("\n") ? null : OPEN;
  const text = inlineNodes(label[1]);
  return { node: anchor(target[1], text.length ? text : [target[1]]), next: end + target[0].length };
}

function angle(rest, i) {
  const mark = BREAK.exec(rest)?.[0];
  if (mark) return { node: el("br"), next: i + mark.length };
  const target = ANGLE.exec(rest);
  if (target) return { node: anchor(target[1], [target[1]]), next: i + target[0].length };
  return ANGLE_PREFIX.test(rest) ? OPEN : null;
}

function bareUrl(source, i, prev, final) {
  if (prev && WORD.test(prev)) return null;
  const rest = source.slice(i);
  if (URL_PREFIX.test(rest)) return OPEN;
  if (!URL_START.test(rest)) return null;
  const url = /^[^\s<>"`]+/.exec(rest)[0];
  if (!final && url.length === rest.length) return OPEN;
  const trimmed = trimUrl(url);
  return { node: anchor(trimmed, [trimmed]), next: i + trimmed.length };
}

function trimUrl(url) {
  let text = url.replace(/[.,;:!?*_'~]+$/, "");
  while (text.endsWith(")") && text.split(")").length > text.split("(").length) text = text.slice(0, -1);
  return text;
}

/** Only addresses that a person can follow safely become links; others keep their words. */
function anchor(target, children) {
  const safe = URL.canParse(target) && ["http:", "https:", "mailto:"].includes(new URL(target).protocol);
  if (!safe) return el("span", {}, ...children);
  return el("a", { href: target, target: "_blank", rel: "noopener noreferrer" }, ...children);
}
