// A simulator of k6, for the load scripts alone: k6 is AGPL-3.0 and not brought here (docs/adr/0024-packaging.md).
// It runs a script's default function some times and prints what its measures were. It knows what the scripts use of k6 and of
// xk6-sse, as their documentation and source have it, and is no judge of speed.
//   node --experimental-websocket run.mjs SCRIPT TIMES
import { register } from 'node:module';
import { pathToFileURL } from 'node:url';

register('./hooks.mjs', import.meta.url);
globalThis.__ENV = process.env;
globalThis.__measures = {};
globalThis.__checks = { passes: 0, fails: 0 };
globalThis.__open = [];

const [script, times] = process.argv.slice(2);
const { default: iterate, options } = await import(pathToFileURL(script));
for (let i = 0; i < Number(times); i += 1) {
  iterate();
  // An iteration is over when its sockets are, as k6 has it.
  await Promise.all(globalThis.__open.splice(0));
}
console.log(JSON.stringify({ options, checks: globalThis.__checks, measures: globalThis.__measures }));
process.exit(0);
