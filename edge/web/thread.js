/** The conversation on the page: one article per exchange. */

import { AnswerView } from "./answer.js";
import { el } from "./dom.js";
import { copyButton, iconButton } from "./icons.js";

/** @typedef {import("./conversation.js").Exchange} Exchange */

export class Thread {
  #node;
  #doors;
  #articles = new Map();

  /**
   * @param {HTMLElement} node
   * @param {{edit: (exchange: Exchange) => void, regenerate: (exchange: Exchange) => void}} doors
   */
  constructor(node, doors) {
    this.#node = node;
    this.#doors = doors;
  }

  /** Show `exchange` after the others. @param {Exchange} exchange @returns {AnswerView} */
  add(exchange) {
    const { question } = exchange;
    const edit = iconButton("edit", "Edit message", () => this.#doors.edit(exchange));
    const buttons = el("div", { class: "buttons" }, copyButton("Copy message", () => question), edit);
    const said = el("section", { class: "question" }, el("h2", { class: "unseen", text: "You said" }), el("div", { class: "said", text: question }), buttons);
    const view = this.#answer(exchange);
    const article = el("article", {}, said, view.node);
    this.#articles.set(exchange, article);
    this.#node.append(article);
    return view;
  }

  /** Show a new answer to `exchange` in the place of the old one. @param {Exchange} exchange */
  replaceAnswer(exchange) {
    const view = this.#answer(exchange);
    this.#articles.get(exchange).lastElementChild.replaceWith(view.node);
    return view;
  }

  /** Show no exchange that is not in `exchanges`. @param {Exchange[]} exchanges */
  keepOnly(exchanges) {
    for (const [exchange, article] of this.#articles) {
      if (exchanges.includes(exchange)) continue;
      article.remove();
      this.#articles.delete(exchange);
    }
  }

  #answer(exchange) {
    const regenerate = () => this.#doors.regenerate(exchange);
    return new AnswerView(exchange.answer, { regenerate });
  }
}
