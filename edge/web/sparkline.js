/** The gaps between arrivals as a water line: level when the stream is steady, a swell where it paused. */

import { svg } from "./dom.js";
import { duration } from "./stats.js";

const WIDTH = 320;
const HEIGHT = 40;
const BASE = HEIGHT - 4;
const SLOTS = 120;
const FLOOR_MS = 60; // the scale never zooms in further, so that a steady stream looks steady

export class Sparkline {
  #line = svg("path", { class: "spark-line" });
  #area = svg("path", { class: "spark-area" });
  #ceiling = FLOOR_MS;

  constructor() {
    const size = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none" };
    /** @type {SVGElement} */
    this.node = svg("svg", { ...size, class: "sparkline", role: "img", "aria-label": "No gaps measured yet" }, this.#area, this.#line);
    this.draw([]);
  }

  /**
   * @param {number[]} points gaps in ms, oldest first
   * @param {number} [growing] the gap that is open right now
   */
  draw(points, growing = 0) {
    const all = growing > (points.at(-1) ?? 0) ? [...points, growing] : points;
    const shown = all.slice(-SLOTS);
    this.#ceiling = Math.max(FLOOR_MS, ...shown);
    const step = WIDTH / (SLOTS - 1);
    const left = WIDTH - (shown.length - 1) * step;
    const y = (gap) => (BASE - (gap / this.#ceiling) * (BASE - 3)).toFixed(1);
    let line = shown.length === SLOTS ? "" : `L0 ${BASE}H${Math.min(WIDTH, left - step).toFixed(1)}`;
    shown.forEach((gap, i) => {
      line += `L${(left + i * step).toFixed(1)} ${y(gap)}`;
    });
    line = `M${line.slice(1)}`;
    this.#line.setAttribute("d", line);
    this.#area.setAttribute("d", `${line}V${HEIGHT}H0Z`);
    this.node.dataset.points = String(points.length);
  }

  /** Say in words what the line shows. */
  describe({ p50, p99, worst }) {
    const words = `Gaps between arrivals: median ${duration(p50)}, 99th percentile ${duration(p99)}, longest ${duration(worst)}`;
    this.node.setAttribute("aria-label", p50 === null ? "No gaps measured yet" : words);
  }
}
