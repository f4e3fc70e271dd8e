// k6, k6/http, k6/metrics and k6/websockets, as far as the scripts use them.
import { said } from './blocking.mjs';

export function check(value, wanted) {
  for (const judge of Object.values(wanted)) {
    globalThis.__checks[judge(value) ? 'passes' : 'fails'] += 1;
  }
}

class Measure {
  constructor(name) {
    this.values = globalThis.__measures[name] ||= [];
  }

  add(value) {
    this.values.push(Number(value));
  }
}

export class Trend extends Measure {}
export class Rate extends Measure {}
export class Counter extends Measure {}

export class WebSocket extends globalThis.WebSocket {
  constructor(url, protocols) {
    super(url, protocols);
    globalThis.__open.push(new Promise((over) => this.addEventListener('close', over)));
  }
}

export default {
  post(url, body, params) {
    const begun = Date.now();
    for (const message of said({ url, body, method: 'POST', headers: params.headers })) {
      if ('status' in message) {
        const { status, body: text } = message;
        return { status, body: text, json: () => JSON.parse(text), timings: { duration: Date.now() - begun } };
      }
    }
    throw new Error('the thread ended without a word');
  },
};
