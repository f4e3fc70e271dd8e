/** The mark of the empty page: water comes in rough from the left and leaves level, between two banks. */

import { svg } from "./dom.js";

const WIDTH = 720;
const HEIGHT = 120;
const LINES = 7;

/** @returns {SVGElement} */
export function streamlines() {
  const node = svg("svg", { class: "streamlines", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" });
  for (let i = 0; i < LINES; i += 1) {
    const d = line(i);
    node.append(svg("path", { d, class: "bed" }), svg("path", { d, class: `current current-${i % 4}` }));
  }
  return node;
}

function line(i) {
  const place = (2 * i) / (LINES - 1) - 1; // -1 … 1 across the channel
  const points = [];
  for (let x = 0; x <= WIDTH; x += 6) {
    const t = x / WIDTH;
    const calm = 1 / (1 + Math.exp((t - 0.42) * 11)); // 1 upstream, 0 downstream
    const half = 18 + 34 * calm;
    const swell = Math.sin(x / (34 + 6 * Math.sin(i * 2.1)) + i * 1.7) * 9 * calm;
    points.push(`${x} ${(HEIGHT / 2 + place * half + swell).toFixed(1)}`);
  }
  return `M${points.join("L")}`;
}
