// k6 blocks on its I/O; node does it on another thread while this one waits for its words.
import { MessageChannel, receiveMessageOnPort, Worker } from 'node:worker_threads';

// Yield what the thread says about one request: {event}, {error}, and at the end {status, body}.
export function* said(request) {
  const bell = new Int32Array(new SharedArrayBuffer(4));
  const { port1, port2 } = new MessageChannel();
  const worker = new Worker(new URL('./thread.mjs', import.meta.url), {
    workerData: { request, port: port2, bell },
    transferList: [port2],
  });
  try {
    for (;;) {
      const heard = Atomics.load(bell, 0);
      for (let found = receiveMessageOnPort(port1); found; found = receiveMessageOnPort(port1)) {
        yield found.message;
        if ('status' in found.message) {
          return;
        }
      }
      Atomics.wait(bell, 0, heard, 30000);
    }
  } finally {
    port1.close();
    worker.terminate();
  }
}
