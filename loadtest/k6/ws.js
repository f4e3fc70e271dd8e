// Streams on a socket: k6 run loadtest/k6/ws.js   (STREAMS=4 on each socket; the rest as sse.js)

import { check } from 'k6';
import { WebSocket } from 'k6/websockets';

import { Answer } from './frames.js';
import { headers, record, request, scenario, thresholds } from './measures.js';

const URL = `${(__ENV.URL || 'http://127.0.0.1:7400').replace(/^http/, 'ws')}/v1/ws`;
const STREAMS = Number(__ENV.STREAMS || 4);
const PATIENCE_MS = Number(__ENV.PATIENCE_MS || 60000);

export const options = { scenarios: { ws: scenario }, thresholds };

export default function () {
  const answers = new Map();
  const { authorization, 'x-sim': sim } = headers();
  const socket = new WebSocket(URL, ['headrace.v1'], { headers: authorization ? { authorization } : {} });
  const late = setTimeout(() => socket.close(), PATIENCE_MS);

  // A stream's end: status as HTTP would have said it, 0 = the socket went away under it.
  const over = (id, status) => {
    const answer = answers.get(id);
    if (answer === undefined) {
      return;
    }
    answers.delete(id);
    const broke = status === 0;
    record(answer, { status, broke });
    check(answer, { 'the answer is whole': (it) => status === 200 && it.fault === null });
    if (answers.size === 0) {
      clearTimeout(late);
      socket.close();
    }
  };

  socket.onopen = () => {
    for (let i = 0; i < STREAMS; i += 1) {
      const id = `s${i}`;
      answers.set(id, new Answer(Date.now()));
      const start = { type: 'start', id, operation: 'chat', request: request() };
      socket.send(JSON.stringify(sim ? { ...start, sim } : start));
    }
  };
  socket.onmessage = (message) => {
    const said = JSON.parse(message.data);
    const answer = answers.get(said.id);
    if (answer === undefined) {
      return;
    }
    if (said.type === 'event') {
      answer.feed(said.data, Date.now());
    } else if (said.type === 'done') {
      answer.feed('[DONE]', Date.now());
      over(said.id, 200);
    } else if (said.type === 'error') {
      answer.error = answer.error || said.error.code;
      over(said.id, said.status);
    } else if (said.type === 'cancelled') {
      over(said.id, 0);
    }
  };
  socket.onclose = () => {
    clearTimeout(late);
    for (const id of [...answers.keys()]) {
      over(id, 0);
    }
  };
  // Followed by close in every case but a refused handshake, which has no stream yet.
  socket.onerror = () => {
    if (answers.size === 0) {
      record(new Answer(Date.now()), { status: 0, broke: true });
      clearTimeout(late);
    }
  };
}
