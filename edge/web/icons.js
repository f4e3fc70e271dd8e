/** Line icons on a 24-unit grid, drawn as nodes so that they take the text colour and need no request. */

import { el, svg } from "./dom.js";

const PATHS = {
  copy: ["M9 9h10v11H9z", "M15 9V4H5v11h4"],
  check: ["M5 12.5l4.5 4.5L19 7.5"],
  again: ["M19.5 12a7.5 7.5 0 1 1-2.4-5.5", "M19.5 3.5v4h-4"],
  edit: ["M5 19l.8-3.6L16 5.2l2.8 2.8L8.6 18.2z", "M13.8 7.4l2.8 2.8"],
  down: ["M12 5v14", "M6 13l6 6 6-6"],
  sound: ["M4 9.5v5h3.5L12 18.5v-13L7.5 9.5z", "M15.5 9a4 4 0 0 1 0 6", "M18 6.5a7.5 7.5 0 0 1 0 11"],
  muted: ["M4 9.5v5h3.5L12 18.5v-13L7.5 9.5z", "M16 9.5l5 5", "M21 9.5l-5 5"],
  hush: ["M7 7h10v10H7z"],
  close: ["M6 6l12 12", "M18 6L6 18"],
  warn: ["M12 4.5L21 19.5H3z", "M12 10.5v4", "M12 17v.2"],
};

/** @param {keyof typeof PATHS} name */
export function icon(name) {
  const paths = PATHS[name].map((d) => svg("path", { d }));
  return svg("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" }, ...paths);
}

/** A quiet button with an icon and a name for the tooltip and the screen reader. */
export function iconButton(name, label, onClick) {
  return el("button", { type: "button", class: "quiet", "aria-label": label, title: label, on: { click: onClick } }, icon(name));
}

/** A button that copies `text()` and says so for a moment. */
export function copyButton(label, text) {
  const button = iconButton("copy", label, async () => {
    await copy(text());
    button.replaceChildren(icon("check"));
    button.setAttribute("aria-label", "Copied");
    setTimeout(() => {
      button.replaceChildren(icon("copy"));
      button.setAttribute("aria-label", label);
    }, 1500);
  });
  return button;
}

async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Without TLS and off this machine there is no clipboard object; the old way still works.
  const field = el("textarea", { class: "unseen", readonly: true });
  field.value = text;
  const focused = document.activeElement;
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
  focused?.focus();
}
