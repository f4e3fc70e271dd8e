/** What one stream felt like: first text, the gaps between arrivals, the rate. Times in milliseconds. */

const KEEP = 160; // points kept for the sparkline

/** @typedef {{ttftMs: number|null, p50: number|null, p99: number|null, worst: number|null, perSecond: number|null,
 *   promptTokens: number|null, answerTokens: number, exact: boolean, points: number[]}} Summary */

export class StreamStats {
  #gaps = [];
  #flowed = 0; // from the first arrival to the last
  #last = 0;
  #deltas = 0;
  #usage = null;
  ttftMs = null;
  points = [];

  constructor(now = performance.now()) {
    this.started = now;
  }

  /** Text that came in one network read counts as one arrival: gaps are what a reader can notice. */
  delta({ ttftMs, gapMs }, now = performance.now()) {
    this.#deltas += 1;
    if (gapMs === null) {
      this.ttftMs = ttftMs;
    } else if (gapMs > 0) {
      this.#flowed += gapMs;
      this.#gaps.push(gapMs);
      this.points.push(gapMs);
      if (this.points.length > KEEP) this.points.shift();
    }
    this.#last = now;
  }

  usage(usage) {
    this.#usage = usage;
  }

  /** How long nothing has come, or 0 before the first text. */
  silence(now = performance.now()) {
    return this.#last ? now - this.#last : 0;
  }

  /** @returns {Summary} */
  summary() {
    const sorted = Float64Array.from(this.#gaps).sort();
    const at = (q) => (sorted.length ? sorted[Math.ceil(q * sorted.length) - 1] : null);
    const tokens = this.#usage?.completion_tokens ?? this.#deltas;
    const seconds = this.#flowed / 1000;
    return {
      ttftMs: this.ttftMs,
      p50: at(0.5),
      p99: at(0.99),
      worst: at(1),
      perSecond: tokens > 1 && seconds > 0 ? (tokens - 1) / seconds : null,
      promptTokens: this.#usage?.prompt_tokens ?? null,
      answerTokens: tokens,
      exact: this.#usage !== null,
      points: this.points.map((gap) => Math.round(gap * 10) / 10),
    };
  }
}

/** 0.4 ms, 18 ms, 1.2 s */
export function duration(ms) {
  if (ms === null) return "–";
  if (ms >= 9950) return `${Math.round(ms / 1000)} s`;
  if (ms >= 995) return `${(ms / 1000).toFixed(1)} s`;
  return `${ms < 9.95 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

export function rate(perSecond) {
  return perSecond === null ? "–" : perSecond < 10 ? perSecond.toFixed(1) : String(Math.round(perSecond));
}
