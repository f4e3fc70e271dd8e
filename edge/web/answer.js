/** One answer on the page: text that grows by what arrived since the last frame, its state, its buttons. */

import { el } from "./dom.js";
import { copyButton, icon, iconButton } from "./icons.js";
import { MarkdownStream } from "./markdown.js";
import { duration, rate } from "./stats.js";

const MARKS = {
  truncated: "Truncated: this is not the whole answer.",
  failed: "Truncated: the backend failed before the answer was complete.",
  stopped: "Stopped.",
  length: "Cut at the model's length limit.",
  content_filter: "Ended by a content filter.",
};

export class AnswerView {
  #answer;
  #doors;
  #prose = el("div", { class: "prose" });
  #markdown = new MarkdownStream(this.#prose);
  #thoughts = null;
  #pending = "";
  #frame = 0;
  #foot = el("footer");
  #link = el("p", { class: "link", role: "note" });

  /**
   * @param {import("./conversation.js").Answer} answer drawn as it is now; grows by `text` and `reasoning`
   * @param {{regenerate: () => void}} doors
   */
  constructor(answer, doors) {
    this.#answer = answer;
    this.#doors = doors;
    /** Where problems with this answer are shown. */
    this.problems = el("div", { class: "problems" });
    this.node = el("section", { class: "answer" }, el("h2", { class: "unseen", text: `${answer.model} answers` }), this.#prose, this.#link, this.problems, this.#foot);
    if (answer.reasoning) this.#think(answer.reasoning);
    if (answer.text) this.#markdown.push(answer.text);
    this.state(answer.status);
  }

  /** @param {string} text */
  text(text) {
    this.#answer.text += text;
    this.#pending += text;
    this.#frame ||= requestAnimationFrame(() => this.#flush());
  }

  /** @param {string} text */
  reasoning(text) {
    this.#answer.reasoning += text;
    this.#think(text);
  }

  /** The connection broke, and the client is on its way back. */
  lost() {
    this.#flush();
    this.#link.replaceChildren(el("span", { class: "ripple", "aria-hidden": "true" }), "Connection lost. Picking the answer up again");
    this.#link.dataset.link = "lost";
  }

  /** @param {number} outageMs the client is back, and nothing is missing */
  resumed(outageMs) {
    this.#answer.resumes = (this.#answer.resumes ?? 0) + 1;
    this.#answer.outageMs = (this.#answer.outageMs ?? 0) + outageMs;
    this.#link.replaceChildren(`Connected again after ${duration(outageMs)}; nothing was lost`);
    this.#link.dataset.link = "back";
    this.#link.dataset.breaks = this.#answer.resumes;
  }

  /** @param {import("./conversation.js").Status} status */
  state(status) {
    this.#answer.status = status;
    this.node.dataset.status = status;
    this.node.setAttribute("aria-busy", String(status === "streaming"));
    if (status === "streaming") {
      if (!this.#answer.text) this.#waiting();
      return;
    }
    this.#flush();
    this.#link.replaceChildren();
    this.#markdown.end();
    this.#prose.querySelector(".waiting")?.remove();
    if (this.#thoughts) this.#thoughts.parentNode.open = false;
    this.#mark(status);
    this.#footer();
  }

  #flush() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (!this.#pending) return;
    this.#prose.querySelector(".waiting")?.remove();
    this.#markdown.push(this.#pending);
    this.#pending = "";
  }

  #waiting() {
    this.#prose.append(el("p", { class: "waiting" }, el("span", { class: "ripple", "aria-hidden": "true" }), "Waiting for the first token"));
  }

  #think(text) {
    if (!this.#thoughts) {
      this.#prose.querySelector(".waiting")?.remove();
      this.#thoughts = el("p");
      const open = this.#answer.status === "streaming";
      this.#prose.before(el("details", { class: "thoughts", open }, el("summary", { text: "Reasoning" }), this.#thoughts));
    }
    this.#thoughts.append(text);
  }

  #mark(status) {
    const { text, finish } = this.#answer;
    const key = status === "complete" ? finish : status;
    if (!MARKS[key] || (!text && status !== "stopped")) return;
    const broken = status === "truncated" || status === "failed";
    this.#prose.after(el("p", { class: "mark", "data-mark": key }, broken ? icon("warn") : null, MARKS[key]));
  }

  #footer() {
    const { text, stats, model, resumes, outageMs } = this.#answer;
    const again = iconButton("again", "Regenerate", () => this.#doors.regenerate());
    again.classList.add("regenerate");
    const buttons = el("div", { class: "buttons" }, text ? copyButton("Copy answer", () => this.#answer.text) : null, again);
    const figures = [model];
    if (stats?.ttftMs) figures.push(`${duration(stats.ttftMs)} to first text`);
    if (stats?.perSecond) figures.push(`${rate(stats.perSecond)} tokens/s`);
    if (resumes) figures.push(`${resumes === 1 ? "one break" : `${resumes} breaks`} of ${duration(outageMs)} bridged`);
    this.#foot.replaceChildren(buttons, el("p", { class: "figures", text: figures.join(" · ") }));
  }
}
