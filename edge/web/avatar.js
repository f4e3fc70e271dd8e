/**
 * A connection to one avatar: its picture and voice, and the words that go both ways. WebRTC first (WHEP); where no
 * way through the network is found, the same over a WebSocket. It comes back by itself when the network changes.
 *
 *     const avatar = new Avatar(client, "anna");
 *     avatar.on("media", (node) => …);      a <video> or a <canvas>
 *     avatar.on("state", (state) => …);     "connecting" | "live" | "back" (coming back) | "off"
 *     avatar.on("speech" | "playback.started" | "playback.finished" | "interrupted" | …, (message) => …);
 *     await avatar.open();
 *     for await (const event of avatar.chat({ model, messages, signal })) …   as `Headrace.chat`
 *
 * @module avatar
 */

import { HeadraceError, chunkEvents, newState } from "./headrace.js";
import { SocketFace } from "./socketface.js";

const ICE_MS = 6000;
const PING_MS = 1500;
/** Silence after which the connection counts as lost: a browser takes half a minute to say so. */
const SILENT_MS = 5000;
/** A browser holds sound back by about so much, and pictures not: it takes it some ten seconds to bring them together. */
const LIPS_MS = 100;
const TRIES = 6;
const BACK_FIRST_MS = 300;
const BACK_MOST_MS = 4000;

export class Avatar {
  #client;
  #name;
  #listeners = new Map();
  #pc = null;
  #channel = null;
  #socket = null;
  #video = null;
  #location = "";
  #viewer = "";
  #session = "";
  #has = 0;
  #ping = 0;
  #heardAt = 0;
  #wanted = false;
  #chats = new Map();
  #numbers = 0;
  state = "off";
  /** What the gateway told of the session: codec, size, frames per second. */
  session = null;
  /** "webrtc" or "websocket" while it is live. */
  transport = "";

  /**
   * @param {import("./headrace.js").Headrace} client
   * @param {string} name the avatar's id
   */
  constructor(client, name) {
    this.#client = client;
    this.#name = name;
  }

  /** @param {string} type @param {(value: any) => void} listener */
  on(type, listener) {
    const those = this.#listeners.get(type) ?? [];
    this.#listeners.set(type, [...those, listener]);
  }

  get live() {
    return this.state === "live";
  }

  /** The peer connection, for its statistics. */
  get peer() {
    return this.#pc;
  }

  async open() {
    this.#wanted = true;
    this.#become("connecting");
    try {
      await this.#connect();
    } catch (error) {
      this.#wanted = false;
      this.#drop();
      this.#become("off");
      throw error;
    }
  }

  close() {
    this.#wanted = false;
    this.#leave();
    this.#drop();
    this.#viewer = this.#session = "";
    this.#become("off");
  }

  say(text) {
    this.send({ type: "say", text });
  }

  interrupt() {
    this.send({ type: "interrupt" });
  }

  /** Send a verb; says whether there was a way. */
  send(message) {
    const text = JSON.stringify(message);
    if (this.#channel?.readyState === "open") this.#channel.send(text);
    else if (this.#socket?.open) this.#socket.send(text);
    else return false;
    return true;
  }

  /** Ask for an answer that the avatar speaks; events as of `Headrace.chat`. */
  async *chat({ model, messages, signal, ...rest }) {
    const id = `c${(this.#numbers += 1)}`;
    const started = performance.now();
    const inbox = newInbox();
    const abort = () => {
      this.send({ type: "cancel", id });
      inbox.fail(signal.reason);
    };
    const request = { ...rest, model, messages, stream: true, stream_options: { include_usage: true } };
    this.#chats.set(id, inbox);
    signal?.addEventListener("abort", abort);
    let over = false;
    try {
      if (!this.send({ type: "chat.start", id, request })) throw lost();
      let state = newState(started, "", "");
      for (;;) {
        const message = await inbox.next();
        const at = performance.now();
        if (message.type === "started") {
          state = newState(started, message.request_id, "");
          const { request_id: requestId, backend = "", simulated = false } = message;
          yield { type: "open", requestId, streamId: "", backend, simulated, headersMs: at - started, headers: new Headers() };
        } else if (message.type === "event") {
          yield* chunkEvents(message.data, "", at, state);
        } else if (message.type === "done") {
          over = true;
          if (!state.finished) throw new HeadraceError("truncated", "The answer ended without a finish reason.");
          yield { type: "done", durationMs: at - started };
          return;
        } else if (message.type === "cancelled") {
          over = true;
          throw new HeadraceError("truncated", "The answer was interrupted.");
        } else {
          over = true;
          const { status, error = {}, retry_after_ms: retryAfterMs = null } = message;
          const facts = { status, type: error.type, code: error.code, param: error.param, requestId: state.requestId, retryAfterMs };
          throw new HeadraceError(state.requestId ? "stream" : "http", error.message, { ...facts, retryable: retryAfterMs !== null });
        }
      }
    } finally {
      signal?.removeEventListener("abort", abort);
      this.#chats.delete(id);
      if (!over && !signal?.aborted) this.send({ type: "cancel", id });
    }
  }

  // Connecting

  async #connect() {
    try {
      await this.#connectPeer();
    } catch (error) {
      if (!(error instanceof NoWay)) throw error;
      // Or the gateway would keep a face ready for nobody; a place that was ours before is taken over by the socket.
      if (!this.#viewer) this.#leave();
      this.#dropPeer();
      await this.#connectSocket();
    }
    this.#become("live");
    this.#heardAt = performance.now();
    clearInterval(this.#ping);
    this.#ping = setInterval(() => this.#look(), PING_MS);
  }

  /** Ask whether the other side is there, and do not wait for the browser to find out that it is not. */
  #look() {
    if (performance.now() - this.#heardAt > SILENT_MS) this.#broken(this.#socket ?? this.#pc);
    else this.send({ type: "ping", t: performance.now() });
  }

  async #connectPeer() {
    if (!globalThis.RTCPeerConnection) throw new NoWay();
    const pc = (this.#pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" }));
    const channel = (this.#channel = pc.createDataChannel("headrace"));
    channel.onmessage = ({ data }) => this.#heard(JSON.parse(data));
    const stream = new MediaStream();
    for (const kind of ["video", "audio"]) {
      const { receiver } = pc.addTransceiver(kind, { direction: "recvonly" });
      stream.addTrack(receiver.track);
      if (kind === "video" && "jitterBufferTarget" in receiver) receiver.jitterBufferTarget = LIPS_MS;
    }
    // Sent before any candidate is gathered: the gateway learns our address from the first packet.
    const offer = await pc.createOffer();
    const path = this.#place("whep", this.#viewer, this.#session);
    const response = await this.#client.request(path, { method: "POST", headers: { "Content-Type": "application/sdp" }, body: offer.sdp }).catch((error) => {
      throw error.param === "webrtc" ? new NoWay() : error; // the gateway has none
    });
    if (pc !== this.#pc) throw lost();
    this.#location = response.headers.get("Location") ?? "";
    const links = parseLinks(response.headers.get("Link") ?? "");
    const iceServers = links.filter(({ rel }) => rel === "ice-server").map(({ url, username, credential }) => ({ urls: url, username, credential }));
    if (iceServers.length) pc.setConfiguration({ bundlePolicy: "max-bundle", iceServers });
    await pc.setLocalDescription(offer);
    await pc.setRemoteDescription({ type: "answer", sdp: await response.text() });
    await connected(pc);
    await opened(channel);
    pc.onconnectionstatechange = () => pc.connectionState === "failed" && this.#broken(pc);
    channel.onclose = () => this.#broken(pc);
    this.transport = "webrtc";
    this.#video ??= Object.assign(document.createElement("video"), { playsInline: true, autoplay: true });
    this.#video.srcObject = stream;
    this.#tell("media", this.#video);
  }

  async #connectSocket() {
    try {
      await this.#openSocket(this.#viewer);
    } catch (error) {
      // A browser does not say why: our place may be given up, or on another worker.
      if (!this.#viewer) throw error;
      await this.#openSocket("");
    }
    this.transport = "websocket";
    this.#tell("media", this.#socket.canvas);
  }

  async #openSocket(viewer) {
    this.#socket?.close();
    const socket = (this.#socket = new SocketFace(this.#client, this.#place("ws", viewer, "")));
    socket.onmessage = (message) => this.#heard(message);
    socket.onclose = () => this.#broken(socket);
    await socket.connect();
  }

  /** Where to go: to the place that we had, or another one in its session, or to a new session. */
  #place(door, viewer, session) {
    if (!viewer) this.#has = 0;
    const query = viewer ? `?resume=${viewer}&after=${this.#has}` : session && `?session=${session}`;
    return `v1/avatars/${encodeURIComponent(this.#name)}/${door}${query}`;
  }

  /** The network went away: come back to the same session while it waits. */
  async #broken(which) {
    if (!this.#wanted || this.state !== "live" || (which !== this.#pc && which !== this.#socket)) return;
    this.#become("back");
    this.#drop();
    for (let tries = 1, wait = BACK_FIRST_MS; this.#wanted && tries <= TRIES; tries += 1, wait = Math.min(2 * wait, BACK_MOST_MS)) {
      try {
        await this.#connect();
        return;
      } catch (error) {
        this.#drop();
        // Our place is given up: another one in the session, and if that did not wait either, a new one.
        if (error.status === 404 || error.status === 410) {
          if (!this.#viewer) this.#session = "";
          this.#viewer = "";
        }
        await new Promise((resolve) => setTimeout(resolve, wait));
      }
    }
    if (this.#wanted) this.close();
  }

  #drop() {
    clearInterval(this.#ping);
    this.#dropPeer();
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    for (const inbox of this.#chats.values()) inbox.fail(lost());
    this.#chats.clear();
  }

  /** Tell the gateway that we are gone. */
  #leave() {
    if (this.#location) this.#client.request(this.#location, { method: "DELETE", keepalive: true }).catch(() => {});
  }

  #dropPeer() {
    const pc = this.#pc;
    this.#pc = this.#channel = null;
    this.#location = "";
    pc?.close();
    if (this.#video) this.#video.srcObject = null;
  }

  // Hearing

  #heard(message) {
    this.#heardAt = performance.now();
    const chat = message.id && this.#chats.get(message.id);
    if (chat && message.type !== "speech") {
      chat.push(message);
      return;
    }
    // What was told before the connection broke, and told again because it may have been lost.
    if (message.event_id <= this.#has) return;
    this.#has = message.event_id ?? this.#has;
    if (message.type === "session") {
      this.session = message;
      this.#viewer = message.viewer;
      this.#session = message.session;
    }
    this.#tell(message.type, message);
  }

  #tell(type, value) {
    for (const listener of this.#listeners.get(type) ?? []) listener(value);
  }

  #become(state) {
    this.state = state;
    this.#tell("state", state);
  }
}

/** No way through the network for WebRTC. */
class NoWay extends Error {}

function lost() {
  return new HeadraceError("truncated", "The connection to the avatar broke.");
}

function connected(pc) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new NoWay()), ICE_MS);
    const look = () => {
      if (pc.connectionState === "connected") clearTimeout(timer), resolve();
      else if (pc.connectionState === "failed" || pc.connectionState === "closed") clearTimeout(timer), reject(new NoWay());
    };
    pc.addEventListener("connectionstatechange", look);
    look();
  });
}

function opened(channel) {
  if (channel.readyState === "open") return undefined;
  return new Promise((resolve, reject) => {
    channel.addEventListener("open", resolve, { once: true });
    channel.addEventListener("close", () => reject(new NoWay()), { once: true });
  });
}

/** `Link` of RFC 8288, as far as this gateway writes it. */
export function parseLinks(header) {
  return [...header.matchAll(/<([^>]*)>((?:;\s*[\w-]+="[^"]*")*)/g)].map(([, url, parameters]) => {
    const found = Object.fromEntries([...parameters.matchAll(/([\w-]+)="([^"]*)"/g)].map(([, name, value]) => [name, value]));
    return { url, ...found };
  });
}

/** Messages that wait for whoever reads a chat. */
function newInbox() {
  const waiting = [];
  let wake = null;
  let failure = null;
  const news = () => {
    wake?.();
    wake = null;
  };
  return {
    push(message) {
      waiting.push(message);
      news();
    },
    fail(error) {
      failure ??= error;
      news();
    },
    async next() {
      while (!waiting.length) {
        if (failure) throw failure;
        await new Promise((resolve) => (wake = resolve));
      }
      return waiting.shift();
    },
  };
}
