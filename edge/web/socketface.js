/** An avatar over a WebSocket: JPEG onto a canvas, Opus through WebCodecs where the browser has it. */

const HEAD_BYTES = 9;
const PICTURE = 1;
const SOUND = 2;
/** Sound is played so much later than it came, so that a late packet leaves no gap. */
const LEAD_S = 0.08;
const LATE_S = 0.4;

export class SocketFace {
  #client;
  #path;
  #socket = null;
  #audio = null;
  #decoder = null;
  #gain = null;
  #muted = false;
  #at = 0;
  #drawing = false;
  #next = null;
  onmessage = () => {};
  onclose = () => {};
  canvas = document.createElement("canvas");

  constructor(client, path) {
    this.#client = client;
    this.#path = path;
    const canvas = this.canvas;
    // What a <video> has, so that whoever shows it need not ask what it is.
    Object.defineProperty(canvas, "muted", { get: () => this.#muted, set: (muted) => this.#mute(muted) });
    canvas.play = () => this.#hear();
  }

  get open() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  send(text) {
    this.#socket.send(text);
  }

  close() {
    this.#socket?.close();
    if (this.#decoder?.state !== "closed") this.#decoder?.close();
    this.#audio?.close();
  }

  async connect() {
    const { url, protocols } = this.#client.socket(this.#path);
    const socket = (this.#socket = new WebSocket(url, protocols));
    socket.binaryType = "arraybuffer";
    await new Promise((resolve, reject) => {
      socket.onopen = resolve;
      socket.onerror = () => reject(new Error("The avatar cannot be reached."));
    });
    socket.onmessage = ({ data }) => (typeof data === "string" ? this.onmessage(JSON.parse(data)) : this.#take(data));
    socket.onclose = () => this.onclose();
  }

  /** Play sound, from the first gesture on: a page that nobody has touched may not. */
  async #hear() {
    if (!globalThis.AudioDecoder) return;
    if (navigator.userActivation?.hasBeenActive === false) throw new Error("Nobody has touched this page yet.");
    if (!this.#audio) this.#listen();
    await this.#audio.resume();
  }

  #listen() {
    this.#audio = new AudioContext({ sampleRate: 48000, latencyHint: "interactive" });
    this.#gain = this.#audio.createGain();
    this.#gain.connect(this.#audio.destination);
    this.#mute(this.#muted);
    this.#decoder = new AudioDecoder({ output: (sound) => this.#play(sound), error: () => {} });
    this.#decoder.configure({ codec: "opus", sampleRate: 48000, numberOfChannels: 1 });
  }

  #mute(muted) {
    this.#muted = muted;
    if (this.#gain) this.#gain.gain.value = muted ? 0 : 1;
  }

  #take(data) {
    const view = new DataView(data);
    const kind = view.getUint8(0);
    const time = Number(view.getBigUint64(1));
    const body = new Uint8Array(data, HEAD_BYTES);
    // Shown when its sound is heard.
    if (kind === PICTURE) setTimeout(() => this.#show(body), this.#audio?.state === "running" ? LEAD_S * 1000 : 0);
    else if (kind === SOUND && this.#decoder?.state === "configured") {
      this.#decoder.decode(new EncodedAudioChunk({ type: "key", timestamp: Math.round((time / 48000) * 1e6), data: body }));
    }
  }

  /** Draw the newest picture; one that came while another was drawn takes the place of those before it. */
  async #show(jpeg) {
    this.#next = jpeg;
    if (this.#drawing) return;
    this.#drawing = true;
    while (this.#next) {
      const bytes = this.#next;
      this.#next = null;
      const picture = await createImageBitmap(new Blob([bytes], { type: "image/jpeg" })).catch(() => null);
      if (!picture) continue;
      const { canvas } = this;
      if (canvas.width !== picture.width || canvas.height !== picture.height) Object.assign(canvas, { width: picture.width, height: picture.height });
      canvas.getContext("2d").drawImage(picture, 0, 0);
      picture.close();
    }
    this.#drawing = false;
  }

  #play(sound) {
    const audio = this.#audio;
    const buffer = audio.createBuffer(1, sound.numberOfFrames, sound.sampleRate);
    sound.copyTo(buffer.getChannelData(0), { planeIndex: 0, format: "f32-planar" });
    sound.close();
    if (audio.state !== "running") return;
    const now = audio.currentTime;
    if (this.#at < now || this.#at > now + LATE_S) this.#at = now + LEAD_S;
    const source = new AudioBufferSourceNode(audio, { buffer });
    source.connect(this.#gain);
    source.start(this.#at);
    this.#at += buffer.duration;
  }
}
