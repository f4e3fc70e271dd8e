"""What is spoken of a stream, while every byte of it goes on."""

from __future__ import annotations

import json

from edge.endpoints.avatars.spoken import Spoken
from streamkit.wire.errors import Code, HeadraceError

DONE = b"data: [DONE]\n\n"


class Outlet:
    def __init__(self) -> None:
        self.on_pause = self.on_resume = self.on_disconnect = None
        self.data = b""
        self.takes = True
        self.aborted = False
        self.unsent_bytes = 7

    def write(self, data: bytes) -> bool:
        self.data += data
        return self.takes

    def abort(self) -> None:
        self.aborted = True


def chunk(text: str | None, index: int = 0) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": index, "delta": {"content": text}}]}).encode() + b"\n\n"


def spoken(*events: bytes, full: bool = False) -> tuple[list[str], bytes, list[HeadraceError]]:
    said: list[str] = []
    refused: list[HeadraceError] = []

    def say(sentences: list[str]) -> None:
        if full:
            raise HeadraceError(Code.SATURATED, "full")
        said.extend(sentences)

    outlet = Outlet()
    listening = Spoken(outlet, say, refused.append)
    for event in events:
        listening.write(event)
    return said, outlet.data, refused


def test_bytes_pass_untouched_and_text_is_spoken():
    events = (chunk("One. T"), chunk("wo."), chunk(None), b": ping\n\n", DONE)
    said, data, _ = spoken(*events)
    assert said == ["One.", "Two."]
    assert data == b"".join(events)


def test_only_the_first_choice_is_spoken():
    assert spoken(chunk("One."), chunk("Zwei.", 1), DONE)[0] == ["One."]


def test_an_answer_that_broke_off_is_not_ended_for_it():
    said, _, _ = spoken(chunk("Whole. Half of"), b'data: {"error":{"message":"x"}}\n\n' + DONE)
    assert said == ["Whole."]


def test_what_is_no_chunk_is_passed_over():
    said, data, _ = spoken(b"data: {nonsense\n\n", b"data: 7\n\n", b'data: {"choices":"x"}\n\n', chunk("Fine."), DONE)
    assert said == ["Fine."]
    assert b"nonsense" in data


def test_a_session_that_has_too_much_to_say_is_told_once_and_the_text_goes_on():
    said, data, refused = spoken(chunk("One. T"), chunk("wo. Three."), DONE, full=True)
    assert (said, len(refused)) == ([], 1)
    assert data.endswith(DONE)


def test_it_stands_in_for_the_outlet():
    outlet = Outlet()
    listening = Spoken(outlet, lambda _: None, lambda _: None)
    for name in ("on_pause", "on_resume", "on_disconnect"):
        call = object()
        setattr(listening, name, call)
        assert getattr(outlet, name) is call
        assert getattr(listening, name) is call
    outlet.takes = False
    assert listening.write(chunk("x")) is False
    assert listening.unsent_bytes == 7
    listening.abort()
    assert outlet.aborted
