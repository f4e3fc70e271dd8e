/** The conversation as data: exchanges of one question and one answer, kept in the tab's session. */

const KEY = "headrace.conversation";

/** @typedef {"streaming"|"complete"|"stopped"|"truncated"|"failed"} Status */
/**
 * @typedef {{text: string, reasoning: string, status: Status, finish: string, model: string, backend: string,
 *   simulated: boolean, stats: import("./stats.js").Summary|null, resumes?: number, outageMs?: number,
 *   streamId?: string, after?: string}} Answer
 */
/** @typedef {{question: string, answer: Answer}} Exchange */

/** @returns {Answer} */
export function newAnswer(model) {
  return { text: "", reasoning: "", status: "streaming", finish: "", model, backend: "", simulated: false, stats: null };
}

export class Conversation {
  /** @type {Exchange[]} */
  exchanges = [];

  constructor(storage = globalThis.sessionStorage) {
    this.#storage = storage;
    try {
      this.exchanges = JSON.parse(storage.getItem(KEY) ?? "[]");
    } catch {
      this.exchanges = [];
    }
    // The page was left while this answer streamed: what is here is not all of it, but the rest may still be kept.
    for (const { answer } of this.exchanges) {
      if (answer.status === "streaming" && !(answer.streamId && answer === this.exchanges.at(-1).answer)) answer.status = "truncated";
    }
  }

  #storage;

  save() {
    try {
      this.#storage.setItem(KEY, JSON.stringify(this.exchanges));
    } catch {
      // Full or blocked: the conversation lives in memory only.
    }
  }

  /** The exchange whose answer streamed when the page was left, and can be read on. @returns {Exchange|undefined} */
  get unfinished() {
    return this.exchanges.find(({ answer }) => answer.status === "streaming");
  }

  /** Drop `exchange` and all after it. */
  cut(exchange) {
    this.exchanges.splice(this.exchanges.indexOf(exchange));
  }

  /**
   * What the model is sent to answer `exchange`: all before it, without questions that got no answer, because many
   * chat templates refuse two messages of the same role in a row.
   */
  messages(exchange) {
    const before = this.exchanges.slice(0, this.exchanges.indexOf(exchange));
    const answered = before.filter(({ answer }) => answer.text);
    const past = answered.flatMap(({ question, answer }) => [
      { role: "user", content: question },
      { role: "assistant", content: answer.text },
    ]);
    return [...past, { role: "user", content: exchange.question }];
  }
}
