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
 * loop early (`break`, `return`) closes the connection, so the gateway stops the work behind it.
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
 * @typedef {{type: "open", requestId: string, backend: string, simulated: boolean, headersMs: number,
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
/** @typedef {OpenEvent|DeltaEvent|FinishEvent|UsageEvent|DoneEvent} ChatEvent */

const MAX_EVENT_CHARS = 8 * 1024 * 1024;
const RETRYABLE = new Set([408, 409, 429]);

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
   * Ask for an answer and read it as it comes. Other fields (temperature, max_tokens, …) go into the body as they are.
   *
   * @param {{model: string, messages: Message[], signal?: AbortSignal, headers?: Record<string, string>}} request
   * @returns {AsyncGenerator<ChatEvent, void, void>}
   */
  async *chat({ model, messages, signal, headers, ...rest }) {
    const started = performance.now();
    const response = await this.#request("v1/chat/completions", {
      method: "POST",
      signal,
      headers: { "Content-Type": "application/json", Accept: "text/event-stream", ...headers },
      body: JSON.stringify({ ...rest, model, messages, stream: true, stream_options: { include_usage: true } }),
    });
    const requestId = response.headers.get("X-Request-Id") ?? "";
    yield {
      type: "open",
      requestId,
      backend: response.headers.get("X-Headrace-Backend") ?? "",
      simulated: response.headers.get("X-Headrace-Simulated") === "1",
      headersMs: performance.now() - started,
      headers: response.headers,
    };
    if (!response.headers.get("Content-Type")?.startsWith("text/event-stream") || !response.body) {
      await response.body?.cancel();
      throw new HeadraceError("protocol", "The answer is not an event stream.", { requestId });
    }
    const reader = response.body.getReader();
    const state = { started, requestId, ttftMs: null, lastText: null, finished: false };
    try {
      const parser = new SSEParser();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) throw new HeadraceError("truncated", "The stream ended before the answer did.", { requestId });
        const at = performance.now();
        for (const event of parser.push(value)) {
          if (event.data === "[DONE]") {
            if (!state.finished) {
              throw new HeadraceError("truncated", "The answer ended without a finish reason.", { requestId });
            }
            yield { type: "done", durationMs: at - started };
            return;
          }
          yield* read(event, at, state);
        }
      }
    } catch (cause) {
      if (signal?.aborted) throw signal.reason;
      if (cause instanceof HeadraceError) throw cause;
      throw new HeadraceError("truncated", "The connection broke before the answer ended.", { requestId, cause });
    } finally {
      reader.cancel().catch(() => {}); // reached by break and throw too; after the end it does nothing
    }
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

/** The events of one chunk. Timing is taken at the network read, so slow rendering does not count as a gap. */
function* read(event, at, state) {
  const { requestId } = state;
  let chunk;
  try {
    chunk = JSON.parse(event.data);
  } catch (cause) {
    throw new HeadraceError("protocol", "The stream holds a frame that is not JSON.", { requestId, cause });
  }
  if (chunk?.error) {
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
      yield { type: "delta", index, text, reasoning, toolCalls, ttftMs: state.ttftMs, gapMs, id: event.id };
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
