// Runs one scenario against a gateway and exits with 0 when it holds:
//   node check.mjs SCENARIO GATEWAY ENGINE
// GATEWAY and ENGINE are base addresses without /v1; ENGINE is the simulator behind the gateway, asked directly.

import { scenarios } from "./scenarios.mjs";

const [name, gateway, engine] = process.argv.slice(2);
if (name === "--list") {
  console.log(Object.keys(scenarios).join("\n"));
} else if (scenarios[name] === undefined) {
  console.error(`no scenario ${name}`);
  process.exitCode = 2;
} else {
  await scenarios[name](gateway, engine);
  console.log(`${name} holds`);
}
