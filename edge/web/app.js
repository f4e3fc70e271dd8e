/** The page: puts the parts together and owns what they share (the client, the conversation, the running turn). */

import { Composer } from "./composer.js";
import { Conversation, newAnswer } from "./conversation.js";
import { NO_MODELS, explain } from "./explain.js";
import { Face } from "./face.js";
import { Follow } from "./follow.js";
import { Headrace } from "./headrace.js";
import { notice } from "./notice.js";
import { streamlines } from "./streamlines.js";
import { LatencyStrip } from "./strip.js";
import { Thread } from "./thread.js";
import { takeTurn } from "./turn.js";

const KEY = "headrace.key";
const MODEL = "headrace.model";
const LOOK_AGAIN_MS = 3000;
/** For so long an answer waits for a phone that changes network. */
const RESUME_S = 60;

const part = (id) => document.getElementById(id);
const client = new Headrace({ apiKey: recall(sessionStorage, KEY) });
const conversation = new Conversation();
const follow = new Follow(part("jump"));
const strip = new LatencyStrip(part("strip"));
const thread = new Thread(part("thread"), { edit, regenerate });
const composer = new Composer(part("composer"), { send, stop, editLast });
const picker = part("model");
const face = new Face({
  node: part("face"),
  button: part("show-face"),
  client,
  recall: (key) => recall(localStorage, key),
  remember: (key, value) => remember(localStorage, key, value),
  announce,
  stop,
});
/** For the console, and for whoever measures it. */
window.headraceFace = face;
/** @type {AbortController|null} */
let running = null;
let lookAgain = 0;

function send(question, editing) {
  if (editing) {
    conversation.cut(editing);
    thread.keepOnly(conversation.exchanges);
  }
  const exchange = { question, answer: newAnswer(picker.value) };
  conversation.exchanges.push(exchange);
  run(exchange, thread.add(exchange));
}

function regenerate(exchange) {
  if (running) return;
  const after = conversation.exchanges[conversation.exchanges.indexOf(exchange) + 1];
  if (after) conversation.cut(after);
  thread.keepOnly(conversation.exchanges);
  exchange.answer = newAnswer(picker.value);
  run(exchange, thread.replaceAnswer(exchange));
}

function edit(exchange) {
  if (!running) composer.edit(exchange);
}

function editLast() {
  const last = conversation.exchanges.at(-1);
  if (last) edit(last);
}

/** Ask for an answer to `exchange`. */
function run(exchange, view) {
  const { answer } = exchange;
  const messages = conversation.messages(exchange);
  take(exchange, view, (signal) => {
    const request = { model: answer.model, messages, signal };
    return face.chat?.(request) ?? client.chat({ ...request, resume: RESUME_S });
  });
}

/** Read on an answer that streamed when the page was left. */
function readOn(exchange, view) {
  const { streamId, after } = exchange.answer;
  take(exchange, view, (signal) => client.continue({ streamId, after, signal, resume: RESUME_S }));
}

async function take(exchange, view, ask) {
  const turn = new AbortController();
  const { answer } = exchange;
  running = turn;
  show();
  follow.latest();
  conversation.save();
  const doors = { retry: () => regenerate(exchange), enterKey: (key) => useKey(key, () => regenerate(exchange)) };
  await takeTurn({ ask, answer, view, strip, signal: turn.signal, doors, announce });
  if (running !== turn) return; // a new chat took over
  running = null;
  conversation.save();
  show();
}

function stop() {
  running?.abort();
  face.hush();
}

function newChat() {
  stop();
  running = null;
  conversation.exchanges = [];
  conversation.save();
  thread.keepOnly([]);
  strip.hide();
  composer.clear();
  show();
  follow.latest();
  composer.focus();
  announce("New chat.");
}

function show() {
  const empty = conversation.exchanges.length === 0;
  document.body.toggleAttribute("data-busy", running !== null);
  document.body.toggleAttribute("data-empty", empty);
  part("welcome").hidden = !empty;
  composer.busy = running !== null;
}

async function loadModels() {
  const gate = part("gate");
  clearTimeout(lookAgain);
  try {
    const models = await client.models();
    const last = recall(localStorage, MODEL);
    const options = models.map(({ id }) => new Option(id, id, false, id === last));
    picker.replaceChildren(...(options.length ? options : [new Option("No models yet", "")]));
    picker.disabled = models.length === 0;
    gate.replaceChildren(...(models.length ? [] : [notice(NO_MODELS, { retry: loadModels })]));
    if (!models.length) lookAgain = setTimeout(loadModels, LOOK_AGAIN_MS);
  } catch (error) {
    const what = explain(error);
    gate.replaceChildren(notice(what, { requestId: error.requestId, retry: loadModels, enterKey: (key) => useKey(key) }));
    if (error.kind === "network" || error.status >= 500) lookAgain = setTimeout(loadModels, LOOK_AGAIN_MS);
  }
}

async function useKey(key, then) {
  client.apiKey = key;
  remember(sessionStorage, KEY, key);
  await Promise.all([loadModels(), face.look()]);
  then?.();
}

function announce(words) {
  part("news").textContent = words;
}

function recall(storage, key) {
  try {
    return storage.getItem(key) ?? "";
  } catch {
    return "";
  }
}

function remember(storage, key, value) {
  try {
    storage.setItem(key, value);
  } catch {
    // Kept for this page only.
  }
}

function keys(event) {
  const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
  const command = event.ctrlKey || event.metaKey;
  if (event.key === "Escape" && (running || face.speaking)) stop();
  else if (event.key === "Escape" && composer.editing) composer.leaveEdit();
  else if (event.code === "KeyO" && command && event.shiftKey) newChat();
  else if (event.key === "/" && !typing && !command && !event.altKey) composer.focus();
  else return;
  event.preventDefault();
}

function start() {
  part("streamlines").append(streamlines());
  const { unfinished } = conversation;
  for (const exchange of conversation.exchanges) {
    const view = thread.add(exchange);
    if (exchange === unfinished) readOn(exchange, view);
  }
  const last = conversation.exchanges.at(-1)?.answer;
  if (last?.stats) {
    strip.settle(last.stats);
    strip.served(last.backend, last.simulated);
  }
  part("new").addEventListener("click", newChat);
  for (const example of part("examples").querySelectorAll("button")) {
    example.addEventListener("click", () => {
      composer.focus();
      send(example.dataset.prompt, null);
    });
  }
  picker.addEventListener("change", () => remember(localStorage, MODEL, picker.value));
  addEventListener("keydown", keys);
  addEventListener("pagehide", () => conversation.save());
  show();
  follow.latest();
  composer.focus();
  loadModels();
  face.look();
}

start();
