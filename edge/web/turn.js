/** One turn: ask, show what arrives, try again where waiting helps, and say how it ended. */

import { explain } from "./explain.js";
import { HeadraceError } from "./headrace.js";
import { countdown, notice } from "./notice.js";
import { StreamStats } from "./stats.js";

const TRIES = 5;

/**
 * @param {object} turn
 * @param {(signal: AbortSignal) => AsyncIterable<import("./headrace.js").ChatEvent>} turn.ask starts a stream; called
 *   again for each try, so that whatever else yields these events can take its place
 * @param {import("./conversation.js").Answer} turn.answer
 * @param {import("./answer.js").AnswerView} turn.view
 * @param {import("./strip.js").LatencyStrip} turn.strip
 * @param {AbortSignal} turn.signal
 * @param {{retry: () => void, enterKey: (key: string) => void}} turn.doors
 * @param {(words: string) => void} turn.announce
 */
export async function takeTurn({ ask, answer, view, strip, signal, doors, announce }) {
  for (let tries = 1; ; tries += 1) {
    const stats = new StreamStats();
    strip.follow(stats);
    try {
      await stream(ask(signal), answer, view, strip, stats, announce);
      view.state("complete");
      announce(`Answer complete, ${answer.stats.answerTokens} tokens.`);
      return;
    } catch (error) {
      strip.settle((answer.stats = stats.summary()), stats);
      if (signal.aborted) {
        view.state("stopped");
        announce("Stopped.");
        return;
      }
      const what = explain(asKnown(error));
      if (what.wait !== null && tries < TRIES) {
        announce(`${what.title}; retrying in ${Math.ceil(what.wait / 1000)} seconds.`);
        try {
          await countdown(view.problems, what, signal);
        } catch {
          view.state("stopped");
          announce("Stopped.");
          return;
        }
      } else {
        view.problems.replaceChildren(notice(what, { requestId: error.requestId, ...doors }));
        view.state(error.kind === "truncated" ? "truncated" : "failed");
        announce([what.title, what.next].join(" "));
        return;
      }
    }
  }
}

async function stream(events, answer, view, strip, stats, announce) {
  for await (const event of events) {
    switch (event.type) {
      case "open":
        answer.backend = event.backend;
        answer.streamId = event.streamId;
        answer.simulated = event.simulated;
        strip.served(event.backend, event.simulated);
        break;
      case "delta":
        stats.delta(event);
        answer.after = event.id;
        if (event.reasoning) view.reasoning(event.reasoning);
        if (event.text) view.text(event.text);
        break;
      case "lost":
        view.lost();
        announce("Connection lost. Picking the answer up again.");
        break;
      case "resumed":
        view.resumed(event.outageMs);
        announce("Connected again; nothing was lost.");
        break;
      case "finish":
        answer.finish = event.reason;
        break;
      case "usage":
        stats.usage(event.usage);
        break;
      case "done":
        strip.settle((answer.stats = stats.summary()), stats);
        break;
    }
  }
}

/** A fault of this page is shown like any other problem, and told to the console. */
function asKnown(error) {
  if (error instanceof HeadraceError) return error;
  console.error(error);
  return new HeadraceError("protocol", String(error), { cause: error });
}
