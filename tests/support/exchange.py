"""One HTTP exchange on a socket of its own, read byte by byte: what no client library would show.

A body is kept as the HTTP chunks that it came in, because "only whole events leave the edge" is said of them.
"""

from __future__ import annotations

import json
import re
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Self
from urllib.parse import urlsplit

from tests.support.timing import FACTOR

__all__ = ["Answer", "Exchange", "ask", "chat", "stream"]

_TIMEOUT_S = 20.0
_RESET = struct.pack("ii", 1, 0)
_EVENT = re.compile(rb".*?(?:\r\n\r\n|\n\n)", re.DOTALL)


@dataclass
class Answer:
    """A response, as far as it came."""

    status: int
    headers: dict[str, str]
    #: The body in the HTTP chunks that it came in; one piece where there were no chunks.
    chunks: list[bytes] = field(default_factory=list)
    #: `monotonic()` of each chunk.
    times: list[float] = field(default_factory=list)
    #: The body ended as HTTP says it must.
    whole: bool = False

    @property
    def body(self) -> bytes:
        """All of the body."""
        return b"".join(self.chunks)

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def events(self) -> list[bytes]:
        """Whole events, comments included; AssertionError if half an event is left over."""
        events = _EVENT.findall(self.body)
        assert b"".join(events) == self.body, f"half an event: {self.body[-200:]!r}"
        return events

    @property
    def data(self) -> list[bytes]:
        """Whole events that are no comments."""
        return [event for event in self.events if not event.startswith(b":")]

    @property
    def pings(self) -> int:
        """Heartbeat comments."""
        return self.events.count(b": ping\n\n")

    @property
    def frames(self) -> list[Any]:
        """The data events' JSON, `[DONE]` left out."""
        return [json.loads(event[5:]) for event in self.data if event.strip() != b"data: [DONE]"]

    @property
    def done(self) -> bool:
        """`[DONE]` was said, once and last."""
        events = self.data
        return bool(events) and events[-1] == b"data: [DONE]\n\n" and self.body.count(b"[DONE]") == 1

    @property
    def text(self) -> str:
        """The joined content of the first choice."""
        pieces = [choice for frame in self.frames for choice in frame.get("choices", ()) if choice["index"] == 0]
        return "".join(piece.get("text") or piece.get("delta", {}).get("content") or "" for piece in pieces)

    @property
    def finish_reasons(self) -> list[str]:
        """Every finish_reason that was said."""
        choices = [choice for frame in self.frames for choice in frame.get("choices", ())]
        return [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]

    @property
    def errors(self) -> list[dict[str, Any]]:
        """The `error` members of the in-band error frames, in order."""
        return [frame["error"] for frame in self.frames if "error" in frame]


class Exchange:
    """A request on a connection of its own, or on one that an earlier exchange left open.

    Args:
        url: base address of the server.
        timeout_s: of every single read, before the time factor.
    """

    def __init__(self, url: str, *, timeout_s: float = _TIMEOUT_S) -> None:
        parts = urlsplit(url)
        self._authority = parts.netloc
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout_s * FACTOR)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self.socket.makefile("rb")
        self.answer = Answer(0, {})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(
        self, method: str, path: str, body: bytes | Mapping[str, Any] = b"", headers: Mapping[str, str] | None = None
    ) -> Exchange:
        """Send a request; a mapping goes out as JSON."""
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = {"host": self._authority, "content-length": str(len(payload))}
        if payload:
            lines["content-type"] = "application/json"
        lines |= {name.lower(): value for name, value in (headers or {}).items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.socket.sendall(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + payload)
        return self

    def head(self) -> Answer:
        """Read the status line and the headers."""
        line = self._file.readline()
        assert line, "the connection was closed before any answer"
        headers: dict[str, str] = {}
        while (header := self._file.readline().rstrip(b"\r\n")) != b"":
            name, _, value = header.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        self.answer = Answer(int(line.split()[1]), headers)
        return self.answer

    def chunk(self) -> bytes | None:
        """Read one HTTP chunk and keep it; None at the end of the body, well ended (`answer.whole`) or not."""
        line = self._line()
        if not line.endswith(b"\n"):
            return None
        size = int(line, 16)
        data = self._read(size + 2)
        if len(data) < size + 2:
            return None
        if size == 0:
            self.answer.whole = True
            return None
        self.answer.chunks.append(data[:-2])
        self.answer.times.append(monotonic())
        return data[:-2]

    def until(self, part: bytes) -> Exchange:
        """Read chunks until one holds `part`; AssertionError if there are none, or the body ends before."""
        assert self.answer.headers.get("transfer-encoding") == "chunked", self.rest()
        while (data := self.chunk()) is not None:
            if part in data:
                return self
        raise AssertionError(f"no {part!r} in {self.answer.body[-500:]!r}")

    def rest(self) -> Answer:
        """Read the body to its end."""
        answer = self.answer
        if "content-length" in answer.headers:
            size = int(answer.headers["content-length"])
            answer.chunks.append(self._read(size))
            answer.whole = len(answer.body) == size
        elif answer.headers.get("transfer-encoding") == "chunked":
            while self.chunk() is not None:
                pass
        else:
            answer.chunks.append(self._read(-1))
            answer.whole = True
        return answer

    def read(self) -> Answer:
        """Read the whole answer."""
        self.head()
        return self.rest()

    def close(self) -> None:
        """Close the connection (FIN)."""
        self._file.close()
        self.socket.close()

    def reset(self) -> None:
        """Close the connection with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()

    def half_close(self) -> None:
        """Close our sending half only."""
        self.socket.shutdown(socket.SHUT_WR)

    def _line(self) -> bytes:
        try:
            return self._file.readline()
        except ConnectionResetError:
            return b""

    def _read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except ConnectionResetError:
            return b""


def ask(
    url: str,
    path: str,
    body: bytes | Mapping[str, Any] = b"",
    *,
    method: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Return the answer to one request; POST where there is a body."""
    with Exchange(url) as exchange:
        return exchange.send(method or ("POST" if body else "GET"), path, body, headers).read()


def chat(text: str = "hello", **members: Any) -> dict[str, Any]:
    """Return a chat request for the model of `tests.support.rig`."""
    return {"model": "tiny", "messages": [{"role": "user", "content": text}], **members}


def stream(url: str, sim: str = "", *, headers: Mapping[str, str] | None = None, **members: Any) -> Exchange:
    """Send a streamed chat request with an `X-Sim`, and return the exchange before anything is read."""
    body = chat(**{"stream": True, **members})
    given = {"x-sim": sim, **(headers or {})} if sim else headers
    return Exchange(url).send("POST", "/v1/chat/completions", body, given)
