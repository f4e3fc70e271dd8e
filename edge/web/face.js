/** The face beside the chat: its picture, what it says, and the buttons to hush, mute and send it away. */

import { Avatar } from "./avatar.js";
import { el } from "./dom.js";
import { explain } from "./explain.js";
import { icon, iconButton } from "./icons.js";

const OPEN = "headrace.face";
const MUTED = "headrace.muted";
const STATES = {
  connecting: "Connecting",
  live: "Live",
  back: "Connection lost, coming back",
  off: "",
};

export class Face {
  #node;
  #button;
  #client;
  #doors;
  /** @type {Avatar|null} */
  #avatar = null;
  #texts = new Map();
  #speaking = new Set();
  #media = null;
  #session = "";
  #stage = el("div", { class: "stage" });
  #status = el("p", { class: "status" });
  #caption = el("p", { class: "caption", "aria-live": "off" });
  #hush;
  #mute;
  #name = "";

  /**
   * @param {{node: HTMLElement, button: HTMLButtonElement, client: import("./headrace.js").Headrace,
   *   recall: (key: string) => string, remember: (key: string, value: string) => void,
   *   announce: (words: string) => void, stop: () => void}} parts `stop` ends the chat too, and calls `hush`
   */
  constructor({ node, button, client, ...doors }) {
    this.#node = node;
    this.#button = button;
    this.#client = client;
    this.#doors = doors;
    this.#hush = iconButton("hush", "Be quiet (Esc)", () => this.#doors.stop());
    this.#mute = iconButton("sound", "Mute", () => this.#setMuted(!this.#muted));
    const away = iconButton("close", "Close the face", () => this.hide());
    this.#hush.classList.add("hush");
    node.append(this.#stage, this.#status, el("div", { class: "controls" }, this.#hush, this.#mute, away), this.#caption);
    button.addEventListener("click", () => (node.hidden ? this.show() : this.hide()));
    // A page that is left says so, and does not wait to be missed; one that is come back to begins anew.
    addEventListener("pagehide", () => this.#avatar?.close());
    addEventListener("pageshow", (event) => event.persisted && !node.hidden && this.show());
  }

  /** Look for avatars and show one, unless it was sent away; without one nothing of all this is seen. */
  async look() {
    let avatars = [];
    try {
      avatars = await this.#client.avatars();
    } catch {
      return; // the list of models tells what is wrong
    }
    const ready = avatars.find((avatar) => avatar.ready);
    this.#button.hidden = !ready;
    this.#name = ready?.id ?? "";
    if (ready && this.#doors.recall(OPEN) !== "no" && this.#node.hidden) this.show();
  }

  /** A chat goes through the avatar while it is live. */
  get chat() {
    const avatar = this.#avatar;
    return avatar?.live ? (request) => avatar.chat(request) : null;
  }

  /** It speaks, or has something to say. */
  get speaking() {
    return this.#speaking.size > 0;
  }

  /** The connection, for whoever measures it. */
  get avatar() {
    return this.#avatar;
  }

  async show() {
    const avatar = (this.#avatar = new Avatar(this.#client, this.#name));
    this.#node.hidden = false;
    this.#pressed(true);
    this.#doors.remember(OPEN, "yes");
    avatar.on("media", (media) => this.#take(media));
    avatar.on("state", (state) => this.#state(state));
    avatar.on("session", ({ session }) => this.#said(session));
    avatar.on("speech", ({ speech, text }) => this.#texts.set(speech, text));
    avatar.on("playback.started", ({ speech }) => this.#started(speech));
    avatar.on("playback.finished", ({ speech }) => this.#finished(speech));
    avatar.on("playback.failed", ({ speech }) => this.#finished(speech));
    avatar.on("interrupted", () => this.#quiet());
    try {
      await avatar.open();
    } catch (error) {
      if (avatar !== this.#avatar) return;
      const what = explain(error);
      this.#node.dataset.state = "failed";
      this.#status.replaceChildren(icon("warn"), `${error.message || what.title} `, el("button", { type: "button", class: "again", text: "Try again", on: { click: () => this.show() } }));
    }
  }

  hide() {
    this.#avatar?.close();
    this.#avatar = null;
    this.#node.hidden = true;
    this.#quiet();
    this.#pressed(false);
    this.#doors.remember(OPEN, "no");
  }

  /** Stop what is being said; a chat stream that is spoken stops with it. */
  hush() {
    if (!this.#avatar?.live) return;
    this.#avatar.interrupt();
    this.#quiet();
  }

  get #muted() {
    return this.#doors.recall(MUTED) === "yes";
  }

  #setMuted(muted) {
    this.#doors.remember(MUTED, muted ? "yes" : "");
    if (this.#media) this.#media.muted = muted;
    if (!muted) this.#media?.play().catch(() => {});
    this.#showMuted(muted);
  }

  #showMuted(muted) {
    this.#mute.replaceChildren(icon(muted ? "muted" : "sound"));
    this.#mute.setAttribute("aria-label", muted ? "Unmute" : "Mute");
    this.#mute.title = muted ? "Unmute" : "Mute";
    this.#node.toggleAttribute("data-muted", muted);
  }

  #take(media) {
    this.#media = media;
    this.#stage.replaceChildren(media);
    media.muted = this.#muted;
    this.#showMuted(this.#muted);
    media.play().catch(() => {
      // Before the first gesture a page may not make a sound: it is seen at once, and heard from that gesture on.
      media.muted = true;
      this.#showMuted(true);
      media.play().catch(() => {});
      this.#unmuteAtGesture(media);
    });
  }

  #unmuteAtGesture(media) {
    const gestures = ["click", "keydown"];
    const unmute = () => {
      for (const name of gestures) removeEventListener(name, unmute, true);
      if (this.#media !== media || this.#muted) return;
      media.muted = false;
      media.play().catch(() => {});
      this.#showMuted(false);
    };
    for (const name of gestures) addEventListener(name, unmute, true);
  }

  #state(state) {
    this.#node.dataset.state = state;
    const how = state === "live" && this.#avatar?.transport === "websocket" ? "Live over WebSocket" : STATES[state];
    this.#status.replaceChildren(el("span", { class: "dot", "aria-hidden": "true" }), how);
    // One that comes back goes on with what it was saying.
    if (state === "connecting" || state === "off") this.#quiet();
    if (state === "back") this.#doors.announce("Connection to the face lost, coming back.");
  }

  /** Another session knows nothing of what was said in the last one. */
  #said(session) {
    if (session !== this.#session) this.#quiet();
    this.#session = session;
  }

  #started(speech) {
    this.#speaking.add(speech);
    this.#node.toggleAttribute("data-speaking", true);
    const text = this.#texts.get(speech);
    if (text) this.#caption.textContent = text;
  }

  #finished(speech) {
    this.#texts.delete(speech);
    this.#speaking.delete(speech);
    if (!this.#speaking.size && !this.#texts.size) this.#quiet();
  }

  #quiet() {
    this.#speaking.clear();
    this.#texts.clear();
    this.#node.removeAttribute("data-speaking");
    this.#caption.textContent = "";
  }

  #pressed(open) {
    this.#button.setAttribute("aria-pressed", String(open));
    document.body.toggleAttribute("data-face", open);
  }
}
