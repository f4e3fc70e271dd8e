/**
 * A small client for a Headrace gateway: one file, no dependencies, usable from any page.
 *
 *     import { Headrace } from "/assets/headrace.js";
 *     const client = new Headrace({ baseUrl: "/" });
 *     for await (const event of client.chat({ model, messages, signal })) {
 *       if (event.type === "delta") show(event.text);
 *     }
 *
 * The iterator ends normally only when the answer is complete: `[DONE]` arrived after a finish reason.
 * Everything else throws: `HeadraceError` (see its `kind`), or the signal's reason after an abort. Leaving the
 * loop early (`break`, `return`) stops the work behind the answer.
 *
 * With `resume: 60` the gateway keeps the stream for a minute when the connection breaks, and this client comes back
 * for the rest by itself: `lost` and `resumed` say so in between, and no text is missing or doubled.
 *
 * @module headrace
 */

/** @typedef {"network"|"http"|"stream"|"truncated"|"protocol"} ErrorKind */
/** @typedef {{role: string, content: string}} Message */
/** @typedef {{prompt_tokens: number, completion_tokens: number, total_tokens: number}} Usage */
/**
 * One dispatched server-sent event; `id` is the last id seen on the stream, "" when there is none.
 * @typedef {{event: string, data: string, id: string}} ServerEvent
 */
/**
 * The gateway accepted the request. `headersMs` counts from the call.
 * @typedef {{type: "open", requestId: string, streamId: string, backend: string, simulated: boolean, headersMs: number,
 *   headers: Headers}} OpenEvent
 */
/**
 * New text. `ttftMs` is the time from the call to the first text (the same on every delta of a stream). `gapMs`
 * is the time since text last arrived: null on the first delta, 0 for text that came in the same network read.
 * @typedef {{type: "delta", index: number, text: string, reasoning: string, toolCalls: object[],
 *   ttftMs: number|null, gapMs: number|null, id: string}} DeltaEvent
 */
/** @typedef {{type: "finish", index: number, reason: string}} FinishEvent */
/** @typedef {{type: "usage", usage: Usage}} UsageEvent */
/** @typedef {{type: "done", durationMs: number}} DoneEvent */
/** The connection broke; the client is on its way back. @typedef {{type: "lost"}} LostEvent */
/** @typedef {{type: "resumed", outageMs: number, tries: number}} ResumedEvent */
/** @typedef {OpenEvent|DeltaEvent|FinishEvent|UsageEvent|DoneEvent|LostEvent|ResumedEvent} ChatEvent */

const MAX_EVENT_CHARS = 8 * 1024 * 1024;
const RETRYABLE = new Set([408, 409, 429]);
const BACK_FIRST_MS = 250;
const BACK_MOST_MS = 5000;

/**
 * What went wrong, in terms a page can act on.
 *
 * - `network`: no answer at all. `http`: refused with a status, nothing was streamed.
 * - `stream`: an error frame inside the stream. `truncated`: the stream ended before the answer did.
 * - `protocol`: the other side does not speak this protocol.
 */
export class HeadraceError extends Error {
  /**
   * @param {ErrorKind} kind
   * @param {string} message
   * @param {{status?: number, type?: string, code?: string|number|null, param?: string|null, requestId?: string,
   *   reason?: string, retryAfterMs?: number|null, retryable?: boolean, cause?: unknown}} [facts]
   */
  constructor(kind, message, facts = {}) {
    super(message, { cause: facts.cause });
    this.name = "HeadraceError";
    this.kind = kind;
    this.status = facts.status ?? 0;
    this.type = facts.type ?? "";
    this.code = facts.code ?? null;
    this.param = facts.param ?? null;
    this.requestId = facts.requestId ?? "";
    this.reason = facts.reason ?? "";
    /** Milliseconds the gateway asks us to wait, or null when it did not say. */
    this.retryAfterMs = facts.retryAfterMs ?? null;
    this.retryable = facts.retryable ?? kind !== "protocol";
  }
}

/**
 * Bytes in, server-sent events out, wherever the network cut them (WHATWG HTML, "Parsing an event stream").
 * An event is handed over at its blank line and not before; half an event at the end is dropped.
 */
export class SSEParser {
  #decoder = new TextDecoder();
  #line = "";
  #afterCR = false;
  #data = "";
  #hasData = false;
  #event = "";
  #id = "";
  #maxChars;

  /** @param {{maxEventChars?: number}} [options] bound on one unfinished event, in UTF-16 units */
  constructor({ maxEventChars = MAX_EVENT_CHARS } = {}) {
    this.#maxChars = maxEventChars;
  }

  /**
   * @param {Uint8Array} bytes
   * @returns {ServerEvent[]}
   */
  push(bytes) {
    const text = this.#decoder.decode(bytes, { stream: true });
    const events = [];
    let start = 0;
    if (this.#afterCR && text) {
      this.#afterCR = false;
      if (text[0] === "\n") start = 1;
    }
    for (const ends = /\r\n?|\n/g; ; ) {
      ends.lastIndex = start;
      const end = ends.exec(text);
      if (!end) break;
      const line = this.#line + text.slice(start, end.index);
      this.#line = "";
      start = ends.lastIndex;
      this.#afterCR = end[0] === "\r" && start === text.length;
      if (line) this.#field(line);
      else this.#dispatch(events);
    }
    this.#line += text.slice(start);
    if (this.#line.length + this.#data.length > this.#maxChars) {
      throw new HeadraceError("protocol", "The stream holds an event that is too large.");
    }
    return events;
  }

  #field(line) {
    const colon = line.indexOf(":");
    if (colon === 0) return; // a comment: the gateway's heartbeat
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (name === "data") {
      this.#data = this.#hasData ? `${this.#data}\n${value}` : value;
      this.#hasData = true;
    } else if (name === "event") this.#event = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
  }

  #dispatch(events) {
    if (this.#hasData) events.push({ event: this.#event || "message", data: this.#data, id: this.#id });
    this.#data = this.#event = "";
    this.#hasData = false;
  }
}

/** A connection to one gateway. It keeps no state between calls but the key. */
export class Headrace {
  #base;
  #fetch;

  /**
   * @param {{baseUrl?: string|URL, apiKey?: string, fetch?: typeof fetch}} [options] `baseUrl` is what `v1/...`
   *   is resolved against, by default the folder above this module
   */
  constructor({ baseUrl, apiKey = "", fetch: fetcher } = {}) {
    const page = globalThis.document?.baseURI;
    this.#base = baseUrl === undefined ? new URL("../", import.meta.url) : new URL(baseUrl, page);
    if (!this.#base.pathname.endsWith("/")) this.#base.pathname += "/";
    this.#fetch = fetcher ?? ((...args) => globalThis.fetch(...args));
    /** Sent as a bearer token when not empty; may be changed at any time. */
    this.apiKey = apiKey;
  }

  /**
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<{id: string, owned_by?: string}[]>}
   */
  async models({ signal } = {}) {
    const response = await this.#request("v1/models", { signal });
    const body = await response.json().catch((cause) => {
      if (signal?.aborted) throw signal.reason;
      throw new HeadraceError("protocol", "The list of models is not JSON.", { cause });
    });
    if (!Array.isArray(body?.data)) throw new HeadraceError("protocol", "The list of models has no data.");
    return body.data;
  }

  /**
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<{id: string, ready: boolean, width: number, height: number, fps: number}[]>}
   */
  async avatars({ signal } = {}) {
    const response = await this.#request("v1/avatars", { signal });
    return (await response.json().catch(() => null))?.data ?? [];
  }

  /**
   * Send any other request of this gateway, with the key; throws `HeadraceError` where it is refused.
   *
   * @param {string} path below the gateway, or as a `Location` or a `Link` of its has it
   * @param {RequestInit} init
   * @returns {Promise<Response>}
   */
  request(path, init) {
    return this.#request(path.replace(/^\//, ""), init);
  }

  /** Where a WebSocket of this gateway is, and what to offer it: a browser sends no headers with a handshake. */
  socket(path) {
    const url = new URL(path, this.#base);
    url.protocol = url.protocol.replace("http", "ws");
    return { url, protocols: this.apiKey ? ["headrace.v1", `headrace.key.${this.apiKey}`] : ["headrace.v1"] };
  }

  /**
   * Ask for an answer and read it as it comes. Other fields (temperature, max_tokens, …) go into the body as they are.
   *
   * @param {{model: string, messages: Message[], signal?: AbortSignal, headers?: Record<string, string>,
   *   resume?: number}} request `resume` is for how many seconds the gateway shall keep the stream after a break
   * @returns {AsyncGenerator<ChatEvent, void, void>}
   */
  async *chat({ model, messages, signal, headers, resume = 0, ...rest }) {
    const started = performance.now();
    const response = await this.#ask(resume, {
      method: "POST",
      signal,
      headers: { "Content-Type": "application/json", Accept: "text/event-stream", ...headers },
      body: JSON.stringify({ ...rest, model, messages, stream: true, stream_options: { include_usage: true } }),
    });
    const requestId = response.headers.get("X-Request-Id") ?? "";
    const streamId = response.headers.get("X-Headrace-Stream") ?? "";
    yield {
      type: "open",
      requestId,
      streamId,
      backend: response.headers.get("X-Headrace-Backend") ?? "",
      simulated: response.headers.get("X-Headrace-Simulated") === "1",
      headersMs: performance.now() - started,
      headers: response.headers,
    };
    yield* this.#follow(response, newState(started, requestId, streamId), resume, signal);
  }

  /**
   * Read a resumable answer on from where an earlier page, or another device, stopped.
   *
   * @param {{streamId: string, after?: string, signal?: AbortSignal, resume?: number}} request what `open` and the
   *   last event said: `streamId`, and the `id` of what came last
   * @returns {AsyncGenerator<ChatEvent, void, void>}
   */
  async *continue({ streamId, after = "0", signal, resume = 60 }) {
    const state = newState(performance.now(), "", streamId, after);
    let response = null;
    try {
      response = await this.#read(state, signal);
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      if (!error.retryable) throw noLongerKept(error);
    }
    yield* this.#follow(response, state, resume, signal);
  }

  /** Read a response, and those that follow it after breaks, to the end of the answer; null = the first is lost. */
  async *#follow(response, state, resume, signal) {
    const { requestId, streamId } = state;
    try {
      for (;;) {
        try {
          response ??= yield* this.#comeBack(state, resume * 1000, signal);
          yield* frames(response, state);
          return;
        } catch (cause) {
          if (signal?.aborted) throw signal.reason;
          const broken = asBroken(cause, requestId);
          if (!streamId || broken.kind !== "truncated" || state.over) throw broken;
          response = null;
        }
      }
    } finally {
      // A resumable stream outlives its connection, so one that nobody wants any more has to be stopped by name.
      if (streamId && !state.over) this.#stop(streamId);
    }
  }

  #read({ streamId, after }, signal) {
    return this.#request(`v1/streams/${streamId}?after=${after}`, { signal, headers: { Accept: "text/event-stream" } });
  }

  /** Ask with a window to come back in; a gateway that refuses one is asked without. */
  async #ask(resume, init) {
    const path = "v1/chat/completions";
    if (!resume) return this.#request(path, init);
    try {
      return await this.#request(path, { ...init, headers: { ...init.headers, "X-Headrace-Resume": String(resume) } });
    } catch (error) {
      if (error.param !== "X-Headrace-Resume") throw error;
      return this.#request(path, init);
    }
  }

  /** Try for `windowMs` to read on after the last event; returns the new response. */
  async *#comeBack(state, windowMs, signal) {
    const lostAt = performance.now();
    yield { type: "lost" };
    for (let tries = 1, waitMs = BACK_FIRST_MS; ; tries += 1, waitMs = Math.min(2 * waitMs, BACK_MOST_MS)) {
      try {
        const response = await this.#read(state, signal);
        yield { type: "resumed", outageMs: performance.now() - lostAt, tries };
        return response;
      } catch (error) {
        if (signal?.aborted) throw signal.reason;
        const left = lostAt + windowMs - performance.now();
        if (!error.retryable || left <= 0) {
          state.over = true; // nobody can have the rest, and nobody has to stop it
          throw noLongerKept(error, state.requestId);
        }
        await pause(Math.min(error.retryAfterMs ?? waitMs, left), signal);
      }
    }
  }

  #stop(streamId) {
    const key = this.apiKey ? { Authorization: `Bearer ${this.apiKey}` } : {};
    // `keepalive` lets it go out even while the page is being left.
    this.#fetch(new URL(`v1/streams/${streamId}`, this.#base), { method: "DELETE", keepalive: true, headers: key }).catch(() => {});
  }

  async #request(path, { signal, headers, ...init }) {
    const key = this.apiKey ? { Authorization: `Bearer ${this.apiKey}` } : {};
    let response;
    try {
      response = await this.#fetch(new URL(path, this.#base), { ...init, signal, headers: { ...key, ...headers } });
    } catch (cause) {
      if (signal?.aborted) throw signal.reason;
      throw new HeadraceError("network", "The gateway cannot be reached.", { cause });
    }
    if (!response.ok) throw await refusal(response);
    return response;
  }
}

/** What is known of one answer while it is read. */
export function newState(started, requestId, streamId, after = "0") {
  return { started, requestId, streamId, after, ttftMs: null, lastText: null, finished: false, over: false };
}

/** All that one response brings, up to `[DONE]`; throws where it ends before. */
async function* frames(response, state) {
  const { requestId } = state;
  if (!response.headers.get("Content-Type")?.startsWith("text/event-stream") || !response.body) {
    await response.body?.cancel();
    throw new HeadraceError("protocol", "The answer is not an event stream.", { requestId });
  }
  const reader = response.body.getReader();
  try {
    const parser = new SSEParser();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new HeadraceError("truncated", "The stream ended before the answer did.", { requestId });
      const at = performance.now();
      for (const event of parser.push(value)) {
        if (event.id) state.after = event.id;
        if (event.data === "[DONE]") {
          state.over = true;
          if (!state.finished) {
            throw new HeadraceError("truncated", "The answer ended without a finish reason.", { requestId });
          }
          yield { type: "done", durationMs: at - state.started };
          return;
        }
        yield* read(event, at, state);
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // reached by break and throw too; after the end it does nothing
  }
}

function noLongerKept(cause, requestId = "") {
  return new HeadraceError("truncated", "The connection broke, and the rest of the answer is no longer kept.", { requestId, cause });
}

function asBroken(cause, requestId) {
  if (cause instanceof HeadraceError) return cause;
  return new HeadraceError("truncated", "The connection broke before the answer ended.", { requestId, cause });
}

/** Wait, but no longer than until the network is back; rejects with the signal's reason. */
function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const end = (settle) => () => {
      clearTimeout(timer);
      globalThis.removeEventListener?.("online", online);
      signal?.removeEventListener("abort", aborted);
      settle();
    };
    const online = end(resolve);
    const aborted = end(() => reject(signal.reason));
    const timer = setTimeout(online, ms);
    globalThis.addEventListener?.("online", online);
    signal?.addEventListener("abort", aborted);
    if (signal?.aborted) aborted();
  });
}

function* read(event, at, state) {
  let chunk;
  try {
    chunk = JSON.parse(event.data);
  } catch (cause) {
    throw new HeadraceError("protocol", "The stream holds a frame that is not JSON.", { requestId: state.requestId, cause });
  }
  yield* chunkEvents(chunk, event.id, at, state);
}

/** The events of one chunk. Timing is taken at the network read, so slow rendering does not count as a gap. */
export function* chunkEvents(chunk, id, at, state) {
  const { requestId } = state;
  if (chunk?.error) {
    state.over = true; // nothing follows an error frame
    const { message, type, code, param } = chunk.error;
    throw new HeadraceError("stream", message || "The backend failed.", { requestId, type, code, param });
  }
  for (const choice of chunk?.choices ?? []) {
    const delta = choice.delta ?? {};
    const index = choice.index ?? 0;
    const text = (delta.content ?? "") + (delta.refusal ?? "");
    const reasoning = delta.reasoning_content ?? delta.reasoning ?? "";
    const toolCalls = delta.tool_calls ?? [];
    if (text || reasoning || toolCalls.length) {
      state.ttftMs ??= at - state.started;
      const gapMs = state.lastText === null ? null : at - state.lastText;
      state.lastText = at;
      yield { type: "delta", index, text, reasoning, toolCalls, ttftMs: state.ttftMs, gapMs, id };
    }
    if (choice.finish_reason) {
      state.finished = true;
      yield { type: "finish", index, reason: choice.finish_reason };
    }
  }
  if (chunk?.usage) yield { type: "usage", usage: chunk.usage };
}

async function refusal(response) {
  const { status, headers } = response;
  const body = await response.json().catch(() => null);
  const { message, type, code, param } = body?.error ?? {};
  const hint = headers.get("x-should-retry");
  return new HeadraceError("http", message || `The gateway answered ${status}.`, {
    status, type, code, param,
    requestId: headers.get("X-Request-Id") ?? "",
    reason: headers.get("X-Headrace-Reason") ?? "",
    retryAfterMs: retryAfter(headers),
    retryable: hint ? hint === "true" : RETRYABLE.has(status) || status >= 500,
  });
}

/** RFC 9110 §10.2.3: seconds or a date; `retry-after-ms` is finer and goes first. */
function retryAfter(headers) {
  const fine = Number.parseFloat(headers.get("retry-after-ms") ?? "");
  if (fine >= 0) return fine;
  const value = headers.get("Retry-After")?.trim();
  if (!value) return null;
  if (/^\d+(\.\d+)?$/.test(value)) return Number(value) * 1000;
  const date = Date.parse(value);
  return Number.isNaN(date) ? null : Math.max(0, date - Date.now());
}
