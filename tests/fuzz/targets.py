"""What is fuzzed: each target feeds bytes to one parser and checks what must hold whatever they are."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from edge.endpoints.access import Access
from edge.endpoints.hello import hello_of
from edge.endpoints.streams import after_of
from edge.protocol.malformed import MalformedError
from edge.protocol.ollama.answer import EventTranslator, whole
from edge.protocol.ollama.request import translate
from edge.protocol.predict.request import read, tensors_of
from edge.protocol.predict.tensors import Spec
from edge.protocol.request import Operation, parse
from edge.protocol.socket_in import Start, name_of
from edge.protocol.socket_in import read as read_message
from edge.protocol.splice import force_usage, replace_model
from streamkit.wire.backend import OllamaOptions
from streamkit.wire.errors import HeadraceError
from streamkit.wire.events import Mark
from streamkit.wire.ids import Instance, StreamIds
from streamkit.wire.keys import CLIENT_TOKENS, KeyRecord, KeySnapshot
from streamkit.wire.openai import payload_of
from streamkit.wire.sse import EventSplitter, EventTooLargeError
from streamkit.wire.tokens import Claims, signed, verified

__all__ = ["SEEDS", "TARGETS"]

T = TypeVar("T")
_VECTORS: Final = Path(__file__).parents[1] / "vectors"
_BOUND: Final = 1 << 12
_IDS: Final = StreamIds(Instance("node", 0, "00000000"), bytes(32))
_ID: Final = _IDS.new()
_SPECS: Final = {
    "x": Spec("x", 1, (None,)), "t": Spec("t", 7, None), "b": Spec("b", 9, (None, 2)),
}  # fmt: skip


_SECRET: Final = bytes(range(32))
_TOKEN: Final = signed(Claims(key="k", expires_at=1 << 40, models=("m",)), _SECRET)
_ACCESS: Final = Access(lambda: 0.0)
_ACCESS.update(
    KeySnapshot(
        version=1,
        required=True,
        keys=(KeyRecord(id="k", sha256="0" * 64, tenant="t"),),
        secrets={CLIENT_TOKENS: _SECRET.hex()},
    )
)


def _pieces(data: bytes) -> Iterator[bytes]:
    """Cut `data` after the size that its first byte gives."""
    size = max(1, data[0]) if data else 1
    for at in range(1, len(data), size):
        yield data[at : at + size]


def _or_refusal(ask: Callable[[], T]) -> T | None:
    """Return what `ask` returns, or None where it refuses; a refusal names a place."""
    try:
        return ask()
    except HeadraceError as error:
        if not error.param:
            raise AssertionError(f"a refusal without a place: {error}") from None
        return None


def sse(data: bytes) -> None:
    """The splitter of event streams: whole events leave, and what leaves is bounded."""
    splitter = EventSplitter(_BOUND)
    with contextlib.suppress(EventTooLargeError):
        for piece in _pieces(data):
            batch = splitter.push(piece)
            assert splitter.held_bytes <= _BOUND
            if batch is not None:
                assert batch.count
                assert b"".join(event.data for event in batch.split()) == batch.data


def ollama(data: bytes) -> None:
    """The translator of Ollama's lines: what leaves is JSON events, and nothing after the end."""
    translator = EventTranslator(chat=True, id_="i", created=1, model="m", usage=True, max_line_bytes=_BOUND)
    over = False
    with contextlib.suppress(MalformedError, EventTooLargeError):
        for piece in _pieces(data):
            batch = translator.push(piece)
            for event in batch.split() if batch is not None else ():
                assert not over
                over = bool(event.marks & (Mark.DONE | Mark.ERROR))
                if not event.marks & Mark.DONE:
                    json.loads(payload_of(event.data))
    with contextlib.suppress(MalformedError):
        json.loads(whole(data, chat=bool(data[:1] == b"{"), id_="i", created=1, model="m"))


def request(data: bytes) -> None:
    """Reading a request, and saying it in Ollama's words."""
    for operation in (Operation.CHAT, Operation.COMPLETION, Operation.EMBEDDINGS):
        call = _or_refusal(lambda operation=operation: parse(operation, data))
        if call is not None and operation is not Operation.EMBEDDINGS:
            with contextlib.suppress(HeadraceError):
                json.loads(translate(call.body, chat=operation is Operation.CHAT, defaults=OllamaOptions()).body)


def splice(data: bytes) -> None:
    """Editing a request: JSON before is JSON after, with nothing else changed."""
    call = _or_refusal(lambda: parse(Operation.CHAT, data))
    try:
        before = json.loads(data)
    except ValueError:
        # What a relay does not decide by need be no text; the engine will say so.
        return
    if call is None:
        return
    with_usage = json.loads(force_usage(call.body))
    assert with_usage.pop("stream_options")["include_usage"] is True
    before.pop("stream_options", None)
    assert with_usage == before
    renamed = json.loads(replace_model(call.body, b'"other"'))
    assert renamed.pop("model") == "other"


def predict(data: bytes) -> None:
    """Reading a prediction: tensors, or a refusal that names a place."""
    prediction = _or_refusal(lambda: read(data))
    if prediction is not None:
        for specs in ({"x": _SPECS["x"]}, {"t": _SPECS["t"]}, _SPECS):
            _or_refusal(lambda specs=specs: tensors_of(prediction, specs))


def stream_ids(data: bytes) -> None:
    """Ids that clients send back: nothing but what we made has an owner."""
    text = data.decode("latin-1")
    owner = _IDS.owner(text)
    assert (owner == _IDS.instance) if text == _ID else owner is None
    with contextlib.suppress(ValueError):
        Instance.parse(text)


def resume(data: bytes) -> None:
    """`Last-Event-ID` and `?after=`: a number, or a refusal that names it."""
    for scope in ({"headers": [(b"last-event-id", data)]}, {"headers": [], "query_string": data}):
        after = _or_refusal(lambda scope=scope: after_of(scope))
        assert after is None or after >= 0


def socket(data: bytes) -> None:
    """A WebSocket message: what it says, or a refusal that names a place, and a name that can be said back."""
    said = _or_refusal(lambda: read_message(data))
    if said is not None:
        assert 0 < len(said.id) <= 64
        assert said.id.isascii()
        if isinstance(said, Start):
            _or_refusal(lambda: parse(Operation(said.operation), bytes(said.request), within="request"))
    assert len(name_of(data)) <= 64


def token(data: bytes) -> None:
    """Client tokens: only what we signed is one, and whatever was signed is claims or none."""
    text = data.decode("latin-1")
    assert (verified(text, _SECRET) is not None) == (text == _TOKEN)
    payload = base64.urlsafe_b64encode(data).rstrip(b"=")
    mac = hmac.digest(_SECRET, b"headrace client token 1\0" + payload, hashlib.sha256)
    shown = b"hrt-" + payload + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")
    claims = verified(shown.decode("latin-1"), _SECRET)
    assert claims is None or isinstance(claims.expires_at, int)


def headers(data: bytes) -> None:
    """The headers of a request or handshake, one a line: a caller, or a refusal; junk is never the token."""
    lines = [line.partition(b":") for line in data.split(b"\n")]
    found = [(name.strip().lower(), value.strip()) for name, _, value in lines]
    scope = {"headers": found, "query_string": found[0][0] if found else b"", "scheme": "http"}
    hello = hello_of(scope)
    for ask in (lambda: _ACCESS.check(scope), lambda: hello.caller(_ACCESS)):
        with contextlib.suppress(HeadraceError):
            assert ask().key_id == "k"
            assert _TOKEN.encode() in data


_MESSAGE: Final = b'{"model":"m","message":{"role":"assistant","content":"Hi"},"done":false}\n'
_LAST: Final = b'{"model":"m","message":{"content":""},"done":true,"done_reason":"stop","eval_count":2}\n'
_CHAT: Final = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"Hi"}],"stream_options":null}'


def _captured() -> list[bytes]:
    return [b"\x20" + path.read_bytes()[:4000] for path in sorted((_VECTORS / "sse").rglob("*.sse"))[:8]]


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "sse": sse, "ollama": ollama, "request": request, "splice": splice, "predict": predict, "stream_ids": stream_ids,
    "resume": resume, "socket": socket, "token": token, "headers": headers,
}  # fmt: skip
SEEDS: Final[dict[str, list[bytes]]] = {
    "sse": _captured(),
    "ollama": [b"\x10" + _MESSAGE + _LAST, b"\x07" + _MESSAGE + b'{"error":"x"}\n', _LAST],
    "request": [_CHAT, b'{"model":"m","prompt":["a"],"max_tokens":5,"stop":["."]}', b'{"model":"m","input":"a"}'],
    "splice": [_CHAT, b'{"stream_options" : {"include_usage":false}, "m\\u006fdel":"m"}'],
    "predict": [
        b'{"instances":[1,2.5]}', b'{"signature_name":"s","instances":[{"x":1,"t":{"b64":"AA=="},"b":[1,2]}]}',
        b'{"inputs":{"x":[1],"t":"a","b":[[1,2]]}}',
    ],
    "stream_ids": [_ID.encode(), b"node.0.00000000", b"a-b.12.0123456789abcdef"],
    "resume": [b"17", b"after=17", b"after=&x=%zz"],
    "socket": [
        b'{"type":"start","id":"a","operation":"chat","request":{"model":"m","stream":true},"credit":5,"sim":"x"}',
        b'{"type":"resume","id":"a","stream":"hs-1","after":12}', b'{"type":"credit","id":"a","bytes":65536}',
        b'{"type":"cancel","id":"a"}',
    ],
    "token": [_TOKEN.encode(), b'{"key":"k","expires_at":9,"models":["m"],"origin":"o","max_priority":2,"user":"u"}'],
    "headers": [
        b"token=" + _TOKEN.encode() + b"\nOrigin: https://a.example\nx-headrace-priority: 3",
        b"\nauthorization: Bearer " + _TOKEN.encode(),
        b"\nsec-websocket-protocol: headrace.v1, headrace.key." + _TOKEN.encode(),
    ],
}  # fmt: skip
