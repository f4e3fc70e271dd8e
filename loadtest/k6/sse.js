// Streams over SSE: k6 run loadtest/k6/sse.js   (URL=http://127.0.0.1:7400 MODEL=sim-chat RATE=10 DURATION=20s)

import { check } from 'k6';
import sse from 'k6/x/sse';

import { Answer } from './frames.js';
import { headers, record, request, scenario, thresholds } from './measures.js';

const URL = `${__ENV.URL || 'http://127.0.0.1:7400'}/v1/chat/completions`;

export const options = { scenarios: { sse: scenario }, thresholds };

export default function () {
  const answer = new Answer(Date.now());
  let broke = false;
  const params = { method: 'POST', headers: headers(), body: JSON.stringify(request()) };
  const response = sse.open(URL, params, (client) => {
    client.on('event', (event) => answer.feed(event.data, Date.now()));
    client.on('error', () => {
      // The module waits for ever after an error unless it is closed, and closing may tell of one more.
      if (!broke) {
        broke = true;
        client.close();
      }
    });
  });
  // A body that ends well and too early is cut as much as one that breaks.
  const cut = broke || (response.status === 200 && !answer.done);
  record(answer, { status: response.status, broke: cut });
  check(answer, { 'the answer is whole': (it) => response.status === 200 && !cut && it.fault === null });
}
