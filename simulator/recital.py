"""`POST /v1/audio/speech` of the OpenAI API: sound with the length and the pauses of a text, not its words.

Each word is a tone that swells and fades, as long as the word; between words it is silent. It is streamed as `pcm`:
24 kHz, signed 16 bit, one channel, no header; 40 ms a piece, `itl_ms` apart. `X-Sim` counts these pieces where
it counts tokens elsewhere: `die_after`, `eof_after`, `end_after`, `stall_after`.
"""

from __future__ import annotations

import array
import math
import zlib
from typing import TYPE_CHECKING, Any, Final

from simulator.directives import Directives
from simulator.errors import EngineError, validation
from simulator.fields import fault

if TYPE_CHECKING:
    from simulator.body import Body
    from simulator.connection import Connection
    from simulator.engine import Engine

__all__ = ["PIECE_BYTES", "SAMPLE_RATE", "Recital", "read", "samples_of"]

SAMPLE_RATE: Final = 24_000
PIECE_BYTES: Final = SAMPLE_RATE * 40 // 1000 * 2
_MAX_CHARACTERS: Final = 4_096
_LETTER_S: Final = 0.065
_PAUSE_S: Final = 0.08
_LOUDEST: Final = 9_000


def read(body: dict[str, Any]) -> str:
    """Return the text of a request.

    Raises:
        EngineError: a field is missing or cannot be used.
    """
    text = body.get("input")
    for name in ("model", "voice"):
        if not isinstance(body.get(name), str):
            raise validation([fault("missing", f"body.{name}", "Field required", body)])
    if not isinstance(text, str) or not text:
        raise validation([fault("missing", "body.input", "Field required", body)])
    if len(text) > _MAX_CHARACTERS:
        raise EngineError(f"input: at most {_MAX_CHARACTERS} characters, got {len(text)}", param="input")
    if body.get("response_format") != "pcm":
        raise EngineError("response_format: the simulator speaks pcm only", param="response_format")
    return text


def samples_of(word: str) -> bytes:
    """Return a word's sound and the pause after it; the same word makes the same bytes."""
    count = int(len(word) * _LETTER_S * SAMPLE_RATE)
    pitch = 110 + zlib.crc32(word.encode("utf-8", "replace")) % 130
    turn = 2 * math.pi * pitch / SAMPLE_RATE
    found = array.array(
        "h",
        (
            int(_LOUDEST * math.sin(math.pi * at / count) * (math.sin(turn * at) + math.sin(3 * turn * at) / 3))
            for at in range(count)
        ),
    )
    return found.tobytes() + bytes(2 * int(_PAUSE_S * SAMPLE_RATE))


class Recital:
    """One answer on its way.

    Args:
        engine: counts it.
        exchange: its connection.
        text: to speak.
        directives: how it is to misbehave.
    """

    def __init__(self, engine: Engine, exchange: Connection, text: str, directives: Directives) -> None:
        self._engine = engine
        self._exchange = exchange
        self._directives = directives
        self._words = iter(text.split())
        #: Samples that are made and not sent.
        self._samples = b""
        self._sent = 0
        self._body: Body | None = None
        self._live = False

    def start(self) -> None:
        """Send the headers, then the first piece when it is due."""
        self._live = True
        self._engine.others += 1
        if self._directives.stall_headers:
            return
        self._body = self._exchange.stream(self._directives, "audio/pcm")
        settings = self._engine.settings
        ttft_ms = settings.ttft_ms if self._directives.ttft_ms is None else self._directives.ttft_ms
        self._later(ttft_ms)

    def abort(self) -> None:
        """The client is gone."""
        if self._live:
            self._leave()
            self._engine.stats.aborted += 1

    def _later(self, ms: float) -> None:
        self._exchange.delayed = self._exchange.loop.call_later(ms * 0.001, self._next)

    def _next(self) -> None:
        self._exchange.delayed = None
        body, directives = self._body, self._directives
        if not self._live or body is None:
            return
        if self._sent == directives.stall_after:
            return
        if self._sent == directives.die_after:
            self._fail()
            body.settle(self._exchange.reset)
        elif self._sent == directives.eof_after:
            self._fail()
            body.settle(self._exchange.close)
        elif self._sent == directives.end_after or not (piece := self._piece()):
            self._leave()
            self._engine.stats.finished += 1
            body.end(self._exchange.over)
        else:
            body.event(piece)
            self._sent += 1
            settings = self._engine.settings
            self._later(settings.itl_ms if directives.itl_ms is None else directives.itl_ms)

    def _piece(self) -> bytes:
        """Return the next 40 ms, or what is left; a word is made when it is due."""
        while len(self._samples) < PIECE_BYTES and (word := next(self._words, None)) is not None:
            self._samples += samples_of(word)
        piece, self._samples = self._samples[:PIECE_BYTES], self._samples[PIECE_BYTES:]
        return piece

    def _fail(self) -> None:
        self._leave()
        self._engine.stats.failed += 1

    def _leave(self) -> None:
        self._live = False
        self._engine.others -= 1
