// What one streamed answer was: when its tokens came, and whether it is whole. No I/O, so that sse.js and ws.js agree.
//
// A 200 says nothing. An answer is whole when a finish_reason was followed by [DONE] and no frame was an error.

const DONE = '[DONE]';

export class Answer {
  // now: milliseconds, from the moment at which the request was sent.
  constructor(now) {
    this.begun = now;
    this.first = null;
    this.last = null;
    this.gaps = [];
    this.tokens = 0;
    this.error = null;
    this.finished = false;
    this.done = false;
  }

  // Take the data of one event. Comments, which some clients hand on as empty events, are no data.
  feed(data, now) {
    if (data === '' || data === undefined) {
      return;
    }
    if (this.done) {
      this.error = 'an event behind [DONE]';
      return;
    }
    if (data === DONE) {
      this.done = true;
      return;
    }
    let frame;
    try {
      frame = typeof data === 'string' ? JSON.parse(data) : data;
    } catch (_) {
      this.error = `an event that is no JSON: ${data.slice(0, 80)}`;
      return;
    }
    if (frame === null || typeof frame !== 'object' || Array.isArray(frame)) {
      this.error = 'an event that is no object';
      return;
    }
    if (frame.error) {
      this.error = frame.error.code || frame.error.type || 'an error frame';
      return;
    }
    for (const choice of frame.choices || []) {
      if (choice.finish_reason) {
        this.finished = true;
      }
      const delta = choice.delta || {};
      if (choice.text || delta.content || delta.reasoning_content || delta.tool_calls) {
        this.token(now);
      }
    }
  }

  token(now) {
    if (this.first === null) {
      this.first = now;
    } else {
      this.gaps.push(now - this.last);
    }
    this.last = now;
    this.tokens += 1;
  }

  // Milliseconds to the first token; null = none came.
  get ttft() {
    return this.first === null ? null : this.first - this.begun;
  }

  // Mean difference between neighbouring gaps, in milliseconds; null = fewer than three tokens.
  get jitter() {
    if (this.gaps.length < 2) {
      return null;
    }
    let sum = 0;
    for (let i = 1; i < this.gaps.length; i += 1) {
      sum += Math.abs(this.gaps[i] - this.gaps[i - 1]);
    }
    return sum / (this.gaps.length - 1);
  }

  // Why the answer is not whole; null = it is.
  get fault() {
    if (this.error !== null) {
      return this.error;
    }
    if (!this.done) {
      return 'no [DONE]';
    }
    if (!this.finished) {
      return 'no finish_reason';
    }
    return this.tokens === 0 ? 'no token' : null;
  }
}
