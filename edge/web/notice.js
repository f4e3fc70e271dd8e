/** A problem shown where it happened: what it is, what to do next, and the buttons to do it. */

import { el } from "./dom.js";
import { icon } from "./icons.js";

/**
 * @param {import("./explain.js").Explanation} what
 * @param {{requestId?: string, retry?: () => void, enterKey?: (key: string) => void}} doors
 * @returns {HTMLElement}
 */
export function notice(what, { requestId, retry, enterKey } = {}) {
  const lines = el("div", { class: "words" }, el("p", { class: "title", text: what.title.replace(/[^.]$/, "$&.") }));
  if (what.detail) lines.append(el("p", { class: "detail", text: what.detail }));
  if (what.next) lines.append(el("p", { text: what.next }));
  if (requestId) lines.append(el("p", { class: "request-id" }, "Request ", el("code", { text: requestId })));
  if (what.key && enterKey) lines.append(keyForm(enterKey));
  else if (retry) lines.append(el("div", { class: "actions" }, button("Retry", retry)));
  return el("div", { class: "notice", role: "group", "aria-label": "Problem" }, icon("warn"), lines);
}

/**
 * Count down to the next try, which the reader can bring forward.
 *
 * @param {Element} parent
 * @param {import("./explain.js").Explanation} what with `wait`
 * @param {AbortSignal} signal aborting takes the notice away and rejects with its reason
 * @returns {Promise<void>} resolves when it is time
 */
export function countdown(parent, what, signal) {
  const title = el("p", { class: "title" });
  const again = button("Retry now", () => finish());
  const words = el("div", { class: "words" }, title, what.detail && el("p", { class: "detail", text: what.detail }));
  words.append(el("div", { class: "actions" }, again));
  const node = el("div", { class: "notice", role: "group", "aria-label": "Problem" }, icon("warn"), words);
  let finish;
  return new Promise((resolve, reject) => {
    const due = performance.now() + what.wait;
    const say = () => {
      const seconds = Math.max(1, Math.ceil((due - performance.now()) / 1000));
      title.textContent = `${what.title}; retrying in ${seconds} s`;
    };
    const timers = [setInterval(say, 250), setTimeout(() => finish(), what.wait)];
    const stop = () => {
      timers.forEach(clearTimeout);
      node.remove();
      signal.removeEventListener("abort", abort);
    };
    const abort = () => {
      stop();
      reject(signal.reason);
    };
    finish = () => {
      stop();
      resolve();
    };
    signal.addEventListener("abort", abort);
    say();
    parent.append(node);
  });
}

function button(text, onClick) {
  return el("button", { type: "button", class: "solid", text, on: { click: onClick } });
}

function keyForm(enterKey) {
  const field = el("input", { type: "password", name: "key", autocomplete: "off", spellcheck: "false", required: true, "aria-label": "API key", placeholder: "API key" });
  const submit = (event) => {
    event.preventDefault();
    if (field.value.trim()) enterKey(field.value.trim());
  };
  return el("form", { class: "actions key", on: { submit } }, field, el("button", { class: "solid", text: "Use key" }));
}
