"""The suite's own frame: what a case cannot read is that case's failure, and the others have their verdicts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from loadtest.conform.case import Case, Finding, passed
from loadtest.conform.http import Target
from loadtest.conform.rig import Rig
from loadtest.conform.suite import run_cases


def case(name: str, run: Any) -> Case:
    return Case(name, "basics", "gateway", "must", "Something.", ("a thread",), run, alone=False)


async def reads_nonsense(_rig: Rig) -> Finding:
    (choice,) = ["no choice"]
    return passed(choice["delta"])  # type: ignore[index]


async def is_good(_rig: Rig) -> Finding:
    await asyncio.sleep(0.01)
    return passed("as it should be")


def test_a_case_that_cannot_read_an_answer_fails_alone():
    cases = [case("odd", reads_nonsense), case("good", is_good)]
    odd, good = asyncio.run(run_cases(Rig(Target("http://127.0.0.1:1")), cases))
    assert (odd.verdict, good.verdict) == ("fail", "pass")
    assert odd.evidence.startswith("what came could not be read: TypeError")


@pytest.mark.parametrize("length", ["many", "-1", "1e3"])
def test_a_length_that_is_none_is_no_http(length: str):
    async def answered() -> str:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\nbody".encode())
            await writer.drain()
            writer.close()

        async def asks(rig: Rig) -> Finding:
            return passed((await rig.exchange(b"GET / HTTP/1.1\r\n\r\n")).outcome)

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            (found,) = await run_cases(Rig(Target(url)), [case("length", asks)])
        return found.evidence

    assert asyncio.run(answered()) == f"no HTTP answer: no length: {length!r}"
