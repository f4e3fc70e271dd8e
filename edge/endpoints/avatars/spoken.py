"""An outlet that listens: what a stream writes goes on untouched, and its text is spoken, sentence by sentence.

The one place where every delta is parsed (design §7, an exception to law 8).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from edge.protocol.sentences import Sentences
from edge.streams.contracts import Outlet
from streamkit.wire.errors import HeadraceError
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["Spoken"]

_LEAD: Final = b"data: "
_DONE: Final = b"[DONE]"


class _Delta(msgspec.Struct, frozen=True):
    content: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    delta: _Delta = _Delta()
    index: int = 0


class _Chunk(msgspec.Struct, frozen=True):
    choices: tuple[_Choice, ...] = ()
    error: msgspec.Raw = msgspec.Raw()


_DECODER: Final[msgspec.json.Decoder[_Chunk]] = msgspec.json.Decoder(_Chunk)


class Spoken:
    """Between a stream and its outlet.

    Args:
        outlet: where everything goes.
        say: speaks sentences; raises what the viewer is told once.
        refused: tells it.
    """

    def __init__(
        self, outlet: Outlet, say: Callable[[list[str]], None], refused: Callable[[HeadraceError], None]
    ) -> None:
        self._outlet = outlet
        self._say: Callable[[list[str]], None] | None = say
        self._refused = refused
        self._sentences = Sentences()

    @property
    def on_pause(self) -> Callable[[], None] | None:
        """As the outlet's."""
        return self._outlet.on_pause

    @on_pause.setter
    def on_pause(self, call: Callable[[], None] | None) -> None:
        self._outlet.on_pause = call

    @property
    def on_resume(self) -> Callable[[], None] | None:
        """As the outlet's."""
        return self._outlet.on_resume

    @on_resume.setter
    def on_resume(self, call: Callable[[], None] | None) -> None:
        self._outlet.on_resume = call

    @property
    def on_disconnect(self) -> Callable[[], None] | None:
        """As the outlet's."""
        return self._outlet.on_disconnect

    @on_disconnect.setter
    def on_disconnect(self, call: Callable[[], None] | None) -> None:
        self._outlet.on_disconnect = call

    @property
    def unsent_bytes(self) -> int:
        """As the outlet's."""
        return self._outlet.unsent_bytes

    def abort(self) -> None:
        """As the outlet's."""
        self._outlet.abort()

    def write(self, data: bytes) -> bool:
        """Pass on whole events, and speak what they say."""
        taken = self._outlet.write(data)
        if self._say is not None:
            for line in data.splitlines():
                if line.startswith(_LEAD):
                    self._hear(line[len(_LEAD) :].strip())
        return taken

    def _hear(self, payload: bytes) -> None:
        if self._say is None:
            return
        if payload == _DONE:
            self._speak(self._sentences.end())
            self._say = None
            return
        try:
            chunk = _DECODER.decode(payload)
        except UNREADABLE:
            return  # no chunk of a chat; the viewer gets it as it is
        if bytes(chunk.error) not in (b"", b"null"):
            # The answer broke off: half a sentence is not spoken as if it were one.
            self._say = None
            return
        text = "".join(choice.delta.content or "" for choice in chunk.choices if choice.index == 0)
        if text:
            self._speak(self._sentences.feed(text))

    def _speak(self, sentences: list[str]) -> None:
        if not sentences or self._say is None:
            return
        try:
            self._say(sentences)
        except HeadraceError as error:
            self._say = None
            self._refused(error)
