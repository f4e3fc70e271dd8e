"""The bytes that the benchmark's backend sends: chat completions shaped as vLLM's, with a send stamp in each token.

A token's content is ` @` and eighteen digits: CLOCK_MONOTONIC in ns when it was handed to the kernel. Before a stream
finishes, one more delta says ` #N#`: N tokens were sent. Both survive gateways that parse and rebuild the JSON.
"""

from __future__ import annotations

from typing import Final

STAMP_MARK: Final = b"@"
STAMP_DIGITS: Final = 18
COUNT_MARK: Final = b"#"
MODEL: Final = "bench"
_CREATED: Final = 1_795_226_064

HEAD_STREAM: Final = (
    b"HTTP/1.1 200 OK\r\nserver: bench\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
LAST_CHUNK: Final = b"0\r\n\r\n"
DONE: Final = b"data: [DONE]\n\n"


def http_chunk(data: bytes) -> bytes:
    """Frame `data` as one chunk (RFC 9112 section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def http_json(body: bytes, status: str = "200 OK") -> bytes:
    """Return a whole JSON response."""
    return (
        f"HTTP/1.1 {status}\r\nserver: bench\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body


class StreamBytes:
    """All pieces of one stream; `number` makes its id."""

    __slots__ = ("_after", "_before", "_number")

    def __init__(self, number: int) -> None:
        self._number = number
        event = self._event(b'{"content":" @%b"}' % (b"0" * STAMP_DIGITS), b'"finish_reason":null,"token_ids":null')
        framed = http_chunk(event)
        self._before, digits, self._after = framed.partition(b"0" * STAMP_DIGITS)
        assert digits  # noqa: S101  # The template above has them.

    def _event(self, delta: bytes, rest: bytes) -> bytes:
        return (
            b'data: {"id":"chatcmpl-%08x","object":"chat.completion.chunk","created":%d,"model":"%b",'
            b'"choices":[{"index":0,"delta":%b,"logprobs":null,%b}]}\n\n'
            % (self._number, _CREATED, MODEL.encode(), delta, rest)
        )

    def opening(self) -> bytes:
        """Return the response's head and the role chunk."""
        role = b'{"role":"assistant","content":""}'
        return HEAD_STREAM + http_chunk(self._event(role, b'"finish_reason":null'))

    def token(self, now_ns: int) -> bytes:
        """Return one token's chunk, stamped `now_ns`."""
        return b"%b%018d%b" % (self._before, now_ns, self._after)

    def ending(self, tokens: int, *, usage: bool) -> bytes:
        """Return everything after the last of `tokens`: count, finish reason, usage if asked for, `[DONE]`."""
        parts = [
            http_chunk(self._event(b'{"content":" #%d#"}' % tokens, b'"finish_reason":null,"token_ids":null')),
            http_chunk(self._event(b'{"content":""}', b'"finish_reason":"length","stop_reason":null')),
        ]
        if usage:
            parts.append(http_chunk(_USAGE % (self._number, _CREATED, MODEL.encode(), 15 + tokens, tokens)))
        return b"".join([*parts, http_chunk(DONE), LAST_CHUNK])


_USAGE: Final = (
    b'data: {"id":"chatcmpl-%08x","object":"chat.completion.chunk","created":%d,"model":"%b","choices":[],'
    b'"usage":{"prompt_tokens":15,"total_tokens":%d,"completion_tokens":%d}}\n\n'
)


def whole_answer(number: int) -> bytes:
    """Return a non-streaming response of about 500 bytes of JSON."""
    text = "a word or two of what a model would say, " * 5
    return http_json(
        (
            f'{{"id":"chatcmpl-{number:08x}","object":"chat.completion","created":{_CREATED},"model":"{MODEL}",'
            f'"choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"logprobs":null,'
            '"finish_reason":"stop","stop_reason":null}],'
            '"usage":{"prompt_tokens":15,"total_tokens":65,"completion_tokens":50}}'
        ).encode()
    )


_MODELS: Final = (
    f'{{"object":"list","data":[{{"id":"{MODEL}","object":"model","created":{_CREATED},"owned_by":"vllm",'
    f'"root":"{MODEL}","parent":null,"max_model_len":1048576}}]}}'
).encode()

#: What gateways ask a backend for before they trust it.
GET_ANSWERS: Final = {
    "/health": http_json(b"{}"),
    "/v1/models": http_json(_MODELS),
    "/version": http_json(b'{"version":"0.32.0"}'),
    "/metrics": http_json(b""),
}
NOT_FOUND: Final = http_json(b'{"detail":"Not Found"}', "404 Not Found")
