"""Voices of an OpenAI-compatible server: a simulated one, sound and sick."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import aclosing

import pytest

from compositor.speech.openai import OpenAiEngine
from compositor.speech.settings import SpeechSettings
from simulator.recital import samples_of
from simulator.server import Simulator
from simulator.settings import SimulatorSettings
from streamkit.wire.errors import Code, HeadraceError
from tests.support.sound import become

pytestmark = pytest.mark.anyio
TEXT = "It rained all day."
SOUND = b"".join(map(samples_of, TEXT.split()))


@pytest.fixture
def anyio_backend():
    # One loop is enough: streams of the HTTP client are tested on both elsewhere.
    return ("asyncio", {"use_uvloop": True})


@contextlib.asynccontextmanager
async def engine(fault: str | None = None, key: str | None = None, **settings):
    simulator = await Simulator.start(
        SimulatorSettings(ttft_ms=1.0, itl_ms=0.2, api_key=key, fault=fault, keep_alive_idle_ms=50.0)
    )
    given = {
        "openai_url": f"{simulator.url}/v1/", "openai_voices": {"anna": "alloy"}, "openai_idle_ms": 300,
        "openai_first_audio_ms": 300, **settings,
    }  # fmt: skip
    found = OpenAiEngine(SpeechSettings(**given), {"SPEECH_KEY": "right", "WRONG_KEY": "wrong"})
    try:
        yield found, simulator
    finally:
        await found.aclose()
        await simulator.close()


async def spoken(found: OpenAiEngine, text: str = TEXT) -> list[bytes]:
    return [piece async for piece in found.speak(text, "anna")]


async def test_a_text_comes_as_raw_samples_in_pieces():
    async with engine() as (found, simulator):
        assert found.names() == ("anna",)
        received = await spoken(found)
        assert b"".join(received) == SOUND
        assert len(received) > 5
        assert all(len(piece) % 2 == 0 for piece in received)
        assert simulator.stats.finished == 1


async def test_pieces_that_end_in_the_middle_of_a_sample_are_joined():
    async with engine(fault="split=333") as (found, _):
        received = await spoken(found)
        assert b"".join(received) == SOUND
        assert all(len(piece) % 2 == 0 for piece in received)


@pytest.mark.parametrize(
    ("fault", "code", "told"),
    [
        ("status=500", Code.BACKEND_ERROR, "the speech server answered 500"),
        ("status=429", Code.SATURATED, "the speech server is busy"),
        ("status=401", Code.BACKEND_ERROR, "the speech server refuses the key"),
        ("stall_headers=true", Code.BACKEND_TIMEOUT, "the speech server sent nothing in time"),
        ("stall_after=0", Code.BACKEND_TIMEOUT, "the speech server sent nothing in time"),
        ("stall_after=3", Code.STREAM_STALLED, "stopped sending in the middle"),
        ("eof_after=3", Code.STREAM_BROKEN, "the speech server broke off"),
        # A reset may take what was not read yet with it.
        ("die_after=3", Code.STREAM_BROKEN, "broke off|without an answer"),
        ("end_after=0", Code.BACKEND_ERROR, "200 with no sound"),
        ("refuse", Code.STREAM_BROKEN, "closed the connection without an answer"),
    ],
)
async def test_a_sick_server_is_told_in_our_words(fault, code, told):
    async with engine(fault=fault) as (found, simulator):
        with pytest.raises(HeadraceError, match=told) as caught:
            await spoken(found)
        assert caught.value.code is code
        # Addresses and keys are for the log of who runs this.
        assert str(simulator.port) not in caught.value.message


async def test_nobody_there():
    found = OpenAiEngine(SpeechSettings(openai_url="http://127.0.0.1:9/v1"), {})
    assert found.names() == ("default",)
    with pytest.raises(HeadraceError, match="cannot be reached") as caught:
        _ = [piece async for piece in found.speak(TEXT, "default")]
    assert caught.value.code is Code.NO_BACKEND
    await found.aclose()


@pytest.mark.parametrize(("variable", "refused"), [("SPEECH_KEY", None), ("WRONG_KEY", "refuses the key")])
async def test_the_key_comes_from_the_environment(variable, refused):
    async with engine(key="right", openai_key_env=variable) as (found, _):
        if refused is None:
            assert await spoken(found)
        else:
            with pytest.raises(HeadraceError, match=refused):
                await spoken(found)


async def test_a_key_that_is_not_there_is_a_missing_voice():
    found = OpenAiEngine(SpeechSettings(openai_url="http://x/v1", openai_key_env="NOT_SET"), {})
    assert found.names() == ()
    assert "the environment has no NOT_SET" in found.problem()
    await found.aclose()


async def test_leaving_in_the_middle_ends_the_request_there():
    async with engine() as (found, simulator):
        async with aclosing(found.speak("word " * 200, "anna")) as pieces:
            await anext(pieces)
        await become(lambda: simulator.stats.open == 0)
        assert simulator.stats.aborted == 1


@pytest.mark.parametrize("body", [b"RIFF\x00\x00\x00\x00WAVE", b"ID3\x04\x00", b"OggS\x00\x02"])
async def test_a_file_is_not_played_as_noise(body):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: audio/wav\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    found = OpenAiEngine(SpeechSettings(openai_url=f"http://127.0.0.1:{port}/v1"), {})
    with pytest.raises(HeadraceError, match="where raw samples"):
        _ = [piece async for piece in found.speak(TEXT, "default")]
    await found.aclose()
    server.close()
    await server.wait_closed()
