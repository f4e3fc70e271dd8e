// One HTTP request; an event stream is taken apart as xk6-sse does it: comments and half events make no data.
import http from 'node:http';
import { workerData } from 'node:worker_threads';

const { request, port, bell } = workerData;
const say = (message) => {
  port.postMessage(message);
  Atomics.add(bell, 0, 1);
  Atomics.notify(bell, 0);
};

let status = 0;
const sent = http.request(request.url, { method: request.method, headers: request.headers }, (response) => {
  status = response.statusCode;
  let text = '';
  let data = '';
  const all = [];
  response.setEncoding('utf8');
  response.on('data', (piece) => {
    all.push(piece);
    text += piece;
    const lines = text.split('\n');
    text = lines.pop();
    for (const line of lines) {
      if (line === '') {
        say({ event: data });
        data = '';
      } else if (line.startsWith('data:')) {
        data += line.slice(line[5] === ' ' ? 6 : 5);
      }
    }
  });
  response.on('error', (error) => say({ error: String(error) }));
  response.on('close', () => say({ status, body: all.join('') }));
});
sent.on('error', (error) => {
  if (status === 0) {
    say({ error: String(error) });
    say({ status, body: '' });
  }
});
sent.end(request.body);
