/** From an error to words: what happened, what to do next, and whether waiting is worth it. */

/**
 * @typedef {{title: string, next: string, detail: string, wait: number|null, key: boolean}} Explanation
 *   `wait`: ms after which trying again by itself is right; `key`: an API key would help
 */

/** @type {Explanation} The gateway answers, and has nothing to choose from. */
export const NO_MODELS = {
  title: "The gateway has no models yet.",
  next: "A backend may still be starting; this page looks again every few seconds.",
  detail: "",
  wait: null,
  key: false,
};

/**
 * @param {import("./headrace.js").HeadraceError} error
 * @returns {Explanation}
 */
export function explain(error) {
  const [title, next] = words(error);
  const detail = error.kind === "http" || error.kind === "stream" ? error.message : "";
  const wait = error.kind === "http" && error.retryable ? error.retryAfterMs : null;
  return { title, next, detail, wait, key: error.status === 401 };
}

function words({ kind, status, retryAfterMs }) {
  switch (kind) {
    case "network":
      return ["The gateway cannot be reached.", "Check that it is running and that you are online, then retry."];
    case "truncated":
      return ["The stream ended early.", "What arrived is kept above. Retry asks for the whole answer again."];
    case "stream":
      return ["The backend failed during the answer.", "What arrived is kept above. Retry may be served by another backend."];
    case "protocol":
      return ["The gateway sent something this page does not understand.", "Retry; if it stays, the gateway and this page may be of different versions."];
    default:
      return refusal(status, retryAfterMs !== null);
  }
}

function refusal(status, timed) {
  if (status === 401) return ["This gateway asks for an API key.", "Enter one to go on. It is kept in this tab only."];
  if (status === 403) return ["This key may not do that.", "Choose another model, or ask whoever runs the gateway."];
  if (status === 404) return ["The gateway does not have this model.", "Choose another one above, then retry."];
  if (status === 413) return ["The conversation is too long for the gateway.", "Start a new chat, or edit the message to be shorter."];
  if (status === 429) return ["The gateway is saturated", timed ? "" : "Others are being served; retry in a moment."];
  if (status === 503) return ["No backend is ready", timed ? "" : "One may be starting; retry in a moment."];
  if (status >= 500) return ["The gateway or its backend failed.", "Retry; nothing of the answer was lost."];
  return ["The request was refused.", "Edit the message, or choose another model."];
}
