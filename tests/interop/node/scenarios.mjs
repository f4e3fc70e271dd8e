// What openai-node must hear through the gateway. Every scenario throws when it does not.

import assert from "node:assert/strict";
import OpenAI from "openai";

const MESSAGES = [{ role: "user", content: "What turns the wheel?" }];
const TOOL = {
  type: "function",
  function: {
    name: "set_gate",
    description: "Open or close the gate.",
    parameters: {
      type: "object",
      properties: { gate: { enum: ["north", "south"] }, open: { type: "boolean" } },
      required: ["gate", "open"],
      additionalProperties: false,
    },
  },
};

function client(base, options = {}) {
  return new OpenAI({ baseURL: `${base}/v1`, apiKey: "not-needed", maxRetries: 0, timeout: 30_000, ...options });
}

function simulate(directives, more = {}) {
  return { headers: { "X-Sim": directives, ...more } };
}

function chat(members = {}) {
  return { model: "tiny", messages: MESSAGES, ...members };
}

// Reads a stream to its end; an error that comes after the first chunk is part of what was heard.
async function heard(base, members, directives = "tokens=30", headers = {}) {
  const chunks = [];
  let error = null;
  try {
    const asked = simulate(directives, headers);
    const stream = await client(base).chat.completions.create(chat({ ...members, stream: true }), asked);
    for await (const chunk of stream) chunks.push(chunk);
  } catch (caught) {
    error = caught;
  }
  const choices = chunks.flatMap((chunk) => chunk.choices);
  return {
    chunks,
    error,
    text: (index = 0) => choices.filter((one) => one.index === index).map((one) => one.delta.content ?? "").join(""),
    finishReasons: choices.map((one) => one.finish_reason).filter(Boolean),
    usage: chunks.map((chunk) => chunk.usage).filter(Boolean),
    calls: choices.flatMap((one) => one.delta.tool_calls ?? []),
    logprobs: choices.flatMap((one) => one.logprobs?.content ?? []),
  };
}

async function rejection(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new assert.AssertionError({ message: "it was not refused" });
}

async function failsInBand(gateway, directives, finishReasons = []) {
  const answer = await heard(gateway, {}, directives);
  assert.ok(answer.error instanceof OpenAI.APIError, `${directives}: ${answer.error}`);
  assert.equal(answer.error.status, undefined);
  assert.ok(answer.text().length > 0);
  assert.deepEqual(answer.finishReasons, finishReasons);
}

export const scenarios = {
  async chat(gateway, engine) {
    const [ours, theirs] = await Promise.all(
      [gateway, engine].map((base) => client(base).chat.completions.create(chat(), simulate("tokens=30"))),
    );
    assert.equal(ours.choices[0].message.content, theirs.choices[0].message.content);
    assert.deepEqual(ours.usage, theirs.usage);
  },

  async stream(gateway, engine) {
    const [ours, theirs] = [await heard(gateway), await heard(engine)];
    assert.equal(ours.error, null);
    assert.ok(ours.text().length > 0);
    assert.equal(ours.text(), theirs.text());
    assert.equal(ours.chunks.length, theirs.chunks.length);
    assert.deepEqual(ours.finishReasons, ["stop"]);
    assert.deepEqual(ours.usage, []);
    assert.equal(new Set(ours.chunks.map((chunk) => `${chunk.id} ${chunk.created}`)).size, 1);
  },

  async usage(gateway, engine) {
    const members = { stream_options: { include_usage: true } };
    const [ours, theirs] = [await heard(gateway, members), await heard(engine, members)];
    assert.deepEqual(ours.usage, theirs.usage);
    assert.equal(ours.usage.length, 1);
    assert.equal(ours.usage[0].completion_tokens, 30);
    assert.deepEqual(ours.chunks.at(-1).choices, []);
  },

  async tools(gateway, engine) {
    for (const choice of ["required", { type: "function", function: { name: "set_gate" } }]) {
      const members = { tools: [TOOL], tool_choice: choice };
      const [ours, theirs] = [await heard(gateway, members, "seed=1"), await heard(engine, members, "seed=1")];
      const parts = (answer) => answer.calls.map((call) => [call.index, call.function]);
      assert.deepEqual(parts(ours), parts(theirs));
      assert.deepEqual(ours.finishReasons, theirs.finishReasons);
      assert.equal(ours.calls[0].function.name, "set_gate");
      const given = JSON.parse(ours.calls.map((call) => call.function.arguments ?? "").join(""));
      assert.equal(typeof given.open, "boolean");
    }
  },

  async logprobs(gateway, engine) {
    const members = { logprobs: true, top_logprobs: 2 };
    const [ours, theirs] = [await heard(gateway, members), await heard(engine, members)];
    assert.equal(ours.logprobs.length, 30);
    assert.deepEqual(ours.logprobs, theirs.logprobs);
  },

  async choices(gateway, engine) {
    const [ours, theirs] = [await heard(gateway, { n: 2 }), await heard(engine, { n: 2 })];
    for (const index of [0, 1]) assert.equal(ours.text(index), theirs.text(index));
    assert.notEqual(ours.text(0), ours.text(1));
    assert.deepEqual(ours.finishReasons, ["stop", "stop"]);
  },

  async stop(gateway, engine) {
    const free = (await heard(engine)).text();
    const word = free.split(" ")[3];
    const ours = await heard(gateway, { stop: [word] });
    assert.equal(ours.text(), free.slice(0, free.indexOf(word)));
    assert.deepEqual(ours.finishReasons, ["stop"]);
  },

  async completions(gateway, engine) {
    const asked = { model: "tiny", prompt: "Water", max_tokens: 12 };
    const [ours, theirs] = await Promise.all([gateway, engine].map((base) => client(base).completions.create(asked)));
    assert.deepEqual(ours.choices, theirs.choices);
    let text = "";
    for await (const chunk of await client(gateway).completions.create({ ...asked, stream: true })) {
      text += chunk.choices[0].text;
    }
    assert.equal(text, theirs.choices[0].text);
  },

  async embeddings(gateway, engine) {
    const asked = { model: "tiny", input: ["one text", "another"] };
    const [ours, theirs] = await Promise.all([gateway, engine].map((base) => client(base).embeddings.create(asked)));
    assert.deepEqual(ours.data, theirs.data);
    assert.equal(ours.data[0].embedding.length, 128);
  },

  async models(gateway) {
    const found = [];
    for await (const model of client(gateway).models.list()) found.push(model.id);
    assert.deepEqual(found, ["tiny"]);
    assert.equal((await client(gateway).models.retrieve("tiny")).id, "tiny");
    const error = await rejection(client(gateway).models.retrieve("nobody-has-it"));
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.equal(error.code, "model_not_found");
  },

  async errors(gateway) {
    const expected = [
      [{ model: "nobody-has-it" }, "", OpenAI.NotFoundError, "model_not_found"],
      [{ n: 0 }, "", OpenAI.BadRequestError, "invalid_request"],
      [{ temperature: -1 }, "", OpenAI.BadRequestError, 400],
      [{}, "status=422", OpenAI.UnprocessableEntityError, 422],
      [{}, "status=429", OpenAI.RateLimitError, "saturated"],
      [{}, "status=500", OpenAI.InternalServerError, "backend_error"],
    ];
    for (const stream of [false, true]) {
      for (const [members, directives, kind, code] of expected) {
        const asked = client(gateway).chat.completions.create(chat({ ...members, stream }), simulate(directives || "tokens=2"));
        const error = await rejection(asked);
        assert.ok(error instanceof kind, `${directives} ${JSON.stringify(members)}: ${error}`);
        assert.equal(error.code, code);
        assert.ok(error.requestID);
      }
    }
  },

  async failures(gateway) {
    for (const directives of ["die_after=3", "end_after=3", "error_after=3", "no_finish=true"]) {
      await failsInBand(gateway, `tokens=6,${directives}`);
    }
    await failsInBand(gateway, "tokens=6,no_done=true", ["stop"]);
  },

  async heartbeats(gateway, engine) {
    const whole = await heard(engine, {}, "tokens=4");
    for (const headers of [{}, { "X-Headrace-Resume": "1" }]) {
      for (const directives of ["tokens=4", "tokens=4,ttft_ms=500,itl_ms=200"]) {
        const ours = await heard(gateway, {}, directives, headers);
        assert.equal(ours.error, null);
        assert.equal(ours.text(), whole.text());
        assert.equal(ours.chunks.length, whole.chunks.length);
        assert.deepEqual(ours.finishReasons, ["stop"]);
      }
      const failed = await heard(gateway, {}, "ttft_ms=400,error_after=0", headers);
      assert.ok(failed.error instanceof OpenAI.APIError);
      assert.deepEqual(failed.chunks, []);
    }
  },

  async retries(gateway) {
    const attempts = [];
    const counting = (url, init) => {
      attempts.push(performance.now());
      return fetch(url, init);
    };
    const patient = client(gateway, { maxRetries: 1, fetch: counting });
    const refused = rejection(patient.chat.completions.create(chat(), simulate("status=429")));
    assert.ok((await refused) instanceof OpenAI.RateLimitError);
    assert.equal(attempts.length, 2);
    assert.ok(attempts[1] - attempts[0] >= 990, `waited ${attempts[1] - attempts[0]} ms instead of the 1000 it was told`);
    attempts.length = 0;
    await rejection(patient.chat.completions.create(chat({ model: "nobody-has-it" })));
    assert.equal(attempts.length, 1);
  },

  async leaving(gateway) {
    const asked = chat({ stream: true });
    const stream = await client(gateway).chat.completions.create(asked, simulate("tokens=20000,itl_ms=5"));
    let chunks = 0;
    for await (const _ of stream) {
      chunks += 1;
      if (chunks === 3) break;
    }
    assert.equal(chunks, 3);
  },
};
