// k6/x/sse: open() blocks until the stream has ended. After an error it waits for ever, unless it is closed by then.
import { said } from './blocking.mjs';

function open(url, params, setup) {
  const handlers = {};
  let closed = false;
  const call = (name, value) => (handlers[name] || []).forEach((handler) => handler(value));
  setup({
    on: (name, handler) => (handlers[name] ||= []).push(handler),
    close: () => {
      closed = true;
    },
  });
  let broke = false;
  for (const message of said({ url, ...params })) {
    if ('event' in message) {
      call('event', { data: message.event });
    } else if ('error' in message) {
      broke = true;
      call('error', { error: () => message.error });
    } else {
      if (broke && !closed) {
        throw new Error('the script did not close a stream that broke: k6 would wait for ever');
      }
      return { url, status: message.status, headers: {}, error: '' };
    }
  }
  throw new Error('the thread ended without a word');
}

export default { open };
