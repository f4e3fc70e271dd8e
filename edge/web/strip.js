/** The latency strip: time to first text, gaps, rate, tokens, who served. Live while an answer streams. */

import { el } from "./dom.js";
import { Sparkline } from "./sparkline.js";
import { duration, rate } from "./stats.js";

const TEXT_EVERY_MS = 120;

const FIELDS = [
  ["ttft", "TTFT", "Time from sending to the first text"],
  ["p50", "Gap p50", "Median pause between arrivals of text, as this browser saw it"],
  ["p99", "Gap p99", "99th percentile of the pauses between arrivals of text"],
  ["rate", "Tokens/s", "Answer tokens per second after the first"],
  ["tokens", "Tokens", "Tokens in all"],
];

export class LatencyStrip {
  #spark = new Sparkline();
  #fields = {};
  #served = el("dd", { text: "–" });
  #badge = el("span", { class: "badge", text: "simulated", title: "A stand-in engine, not a GPU", hidden: true });
  #frame = 0;
  #following = null;
  #node;

  /** @param {HTMLElement} node an empty, hidden element */
  constructor(node) {
    this.#node = node;
    const list = el("dl");
    for (const [key, label, title] of FIELDS) {
      this.#fields[key] = el("dd", { text: "–", "data-metric": key });
      list.append(el("div", { title }, el("dt", { text: label }), this.#fields[key]));
    }
    const who = el("div", { class: "served", title: "The backend that served the answer" }, el("dt", {}, "Served by ", this.#badge), this.#served);
    list.append(who);
    node.append(this.#spark.node, list);
  }

  /** Follow a stream until `settle`. @param {import("./stats.js").StreamStats} stats */
  follow(stats) {
    cancelAnimationFrame(this.#frame);
    this.#following = stats;
    this.#node.hidden = false;
    this.#node.dataset.live = "";
    this.served("", false);
    let shown = -Infinity;
    const tick = (now) => {
      this.#frame = requestAnimationFrame(tick);
      this.#spark.draw(stats.points, stats.silence());
      if (now - shown < TEXT_EVERY_MS) return;
      shown = now;
      const summary = stats.summary();
      this.#write(summary);
      if (summary.ttftMs === null) this.#fields.ttft.textContent = duration(performance.now() - stats.started);
    };
    tick(performance.now());
  }

  /**
   * A stream is over: show its final figures, unless the strip has gone on to something else.
   *
   * @param {import("./stats.js").Summary} summary
   * @param {import("./stats.js").StreamStats|null} [stats] what was followed; null for figures of an earlier visit
   */
  settle(summary, stats = null) {
    if (this.#following !== stats) return;
    cancelAnimationFrame(this.#frame);
    this.#node.hidden = false;
    delete this.#node.dataset.live;
    this.#spark.draw(summary.points);
    this.#spark.describe(summary);
    this.#write(summary);
  }

  served(backend, simulated) {
    this.#served.textContent = backend || "–";
    this.#served.title = backend;
    this.#badge.hidden = !simulated;
  }

  hide() {
    cancelAnimationFrame(this.#frame);
    this.#following = null;
    this.#node.hidden = true;
  }

  #write({ ttftMs, p50, p99, perSecond, promptTokens, answerTokens, exact }) {
    const { ttft, p50: low, p99: high, rate: speed, tokens } = this.#fields;
    ttft.textContent = duration(ttftMs);
    low.textContent = duration(p50);
    high.textContent = duration(p99);
    speed.textContent = rate(perSecond);
    tokens.textContent = String(answerTokens + (promptTokens ?? 0));
    tokens.dataset.exact = String(exact);
    tokens.parentNode.title = exact ? `${promptTokens} in the prompt, ${answerTokens} in the answer` : "Pieces of text so far; the exact count comes at the end";
    if (exact) tokens.append(el("small", { text: `${promptTokens} in, ${answerTokens} out` }));
  }
}
