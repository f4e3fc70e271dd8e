// The measures of sse.js and ws.js, and the thresholds that fail a run. Names are those of docs/loadtest.md.

import { Counter, Rate, Trend } from 'k6/metrics';

const ttft = new Trend('headrace_ttft', true);
const gap = new Trend('headrace_gap', true);
const jitter = new Trend('headrace_jitter', true);
const whole = new Rate('headrace_whole');
const tokens = new Counter('headrace_tokens');
const disconnects = new Counter('headrace_disconnects');
const errorFrames = new Counter('headrace_error_frames');
const shed = new Counter('headrace_shed');

const env = (name, fallback) => Number(__ENV[name] || fallback);

// Stated in milliseconds, so that a slow machine or another engine needs no other script.
export const thresholds = {
  headrace_whole: [`rate>=${env('WHOLE', 0.999)}`],
  headrace_ttft: [`p(95)<${env('TTFT_MS', 1000)}`],
  headrace_gap: [`p(99)<${env('GAP_MS', 250)}`],
  headrace_jitter: [`p(95)<${env('JITTER_MS', 100)}`],
  headrace_disconnects: [`count<=${env('DISCONNECTS', 0)}`],
  headrace_error_frames: [`count<=${env('ERROR_FRAMES', 0)}`],
};

// Open loop: arrivals do not wait for answers, so a slow gateway cannot slow its own load down.
export const scenario = {
  executor: 'constant-arrival-rate',
  rate: env('RATE', 10),
  timeUnit: '1s',
  duration: __ENV.DURATION || '20s',
  preAllocatedVUs: env('VUS', 50),
  maxVUs: env('MAX_VUS', 500),
};

export const request = (extra) => ({
  model: __ENV.MODEL || 'sim-chat',
  stream: true,
  messages: [{ role: 'user', content: 'Tell me about rivers.' }],
  max_tokens: env('MAX_TOKENS', 64),
  ...extra,
});

export const headers = () => {
  const found = { 'content-type': 'application/json' };
  if (__ENV.HEADRACE_API_KEY) {
    found.authorization = `Bearer ${__ENV.HEADRACE_API_KEY}`;
  }
  if (__ENV.X_SIM) {
    found['x-sim'] = __ENV.X_SIM;
  }
  return found;
};

// Count one answer. broke: the connection ended before the answer did.
export function record(answer, { status, broke }) {
  if (status === 429 || status === 503) {
    shed.add(1);
  }
  if (broke) {
    disconnects.add(1);
  }
  if (answer.error !== null) {
    errorFrames.add(1);
  }
  whole.add(status === 200 && !broke && answer.fault === null);
  tokens.add(answer.tokens);
  if (answer.ttft !== null) {
    ttft.add(answer.ttft);
  }
  for (const one of answer.gaps) {
    gap.add(one);
  }
  if (answer.jitter !== null) {
    jitter.add(answer.jitter);
  }
}
