"""What one probe makes of an answer: a time, a failure of the backend, or nothing at all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from observe.probe import Probed, Prober
from streamkit.ops.http_client import HttpError, Stream
from streamkit.wire.errors import Code, HeadraceError

pytestmark = pytest.mark.anyio
ROLE = 'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}'
TOKEN = 'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}'
THOUGHT = 'data: {"choices":[{"index":0,"delta":{"reasoning_content":"x"}}]}'
END = "data: [DONE]"


class Script:
    """An HTTP client whose answers are lines, and pauses between them in seconds."""

    def __init__(
        self,
        *lines: str | float | HttpError,
        status: int = 200,
        error: HttpError | None = None,
        head_s: float = 0.0,
        alive: HttpError | None = None,
    ) -> None:
        self.lines = lines
        self.head_s = head_s
        self.alive = alive
        self.status = status
        self.error = error
        self.asked: list[tuple[str, Any, Any]] = []

    @contextlib.asynccontextmanager
    async def stream_lines(self, url: str, payload: object, **options: Any) -> AsyncIterator[Stream]:
        self.asked.append((url, payload, dict(options["headers"])))
        if self.error is not None:
            raise self.error
        await asyncio.sleep(self.head_s)
        yield Stream(self.status, {"x-headrace-node": "north"}, self._lines())

    async def get(self, url: str, **options: Any) -> None:
        self.asked.append((url, None, dict(options["headers"])))
        if self.alive is not None:
            raise self.alive

    async def _lines(self) -> AsyncIterator[str]:
        for line in self.lines:
            if isinstance(line, float):
                await asyncio.sleep(line)
            elif isinstance(line, HttpError):
                raise line
            else:
                yield line


async def probed(script: Script, timeout_ms: int = 5_000) -> Probed:
    prober = Prober(script, key="hr-1", tokens=2, timeout_ms=timeout_ms)  # type: ignore[arg-type]
    return await prober.probe("http://edge/", "gpu0", "m")


async def test_a_good_stream_is_timed_from_its_first_token():
    script = Script(": ping", "", ROLE, 0.03, TOKEN, "", 0.06, THOUGHT, TOKEN, END)
    found = await probed(script)
    assert (found.probe.result, found.node) == ("ok", "north")
    assert found.probe.ttft_s is not None
    assert found.probe.gap_s is not None
    assert found.probe.ttft_s >= 0.02, "a bare role is no token"
    assert found.probe.gap_s >= 0.05
    ((url, body, headers),) = script.asked
    assert url == "http://edge/v1/chat/completions"
    assert (body["model"], body["stream"], body["max_tokens"]) == ("m", True, 2)
    assert headers == {"x-headrace-probe": "gpu0", "authorization": "Bearer hr-1"}


def refusal(code: Code) -> str:
    return HeadraceError(code, "no").envelope().decode()


@pytest.mark.parametrize(
    ("script", "result"),
    [
        (Script(TOKEN), "failed"),
        (Script(ROLE, END), "failed"),
        (Script("data: {"), "failed"),
        (Script(TOKEN, f"data: {refusal(Code.STREAM_BROKEN)}", END), "failed"),
        (Script(refusal(Code.BACKEND_ERROR), status=502), "failed"),
        (Script(refusal(Code.NO_BACKEND), status=503), "failed"),
        (Script("<html>", status=500), "failed"),
        (Script(refusal(Code.SATURATED), status=429), "busy"),
        (Script(refusal(Code.INSUFFICIENT_QUOTA), status=429), "busy"),
        (Script(refusal(Code.UNAUTHORIZED), status=401), "unasked"),
        (Script(refusal(Code.DRAINING), status=503), "unasked"),
        (Script(refusal(Code.NO_ROUTE), status=503), "unasked"),
        (Script(error=HttpError("connect", "cannot connect")), "unasked"),
        (Script(error=HttpError("closed", "the connection broke")), "unasked"),
        (Script(TOKEN, HttpError("closed", "the connection broke")), "failed"),
    ],
)
async def test_whose_fault_it_is(script: Script, result: str):
    found = await probed(script)
    assert found.probe.result == result
    assert found.probe.ttft_s is None


async def test_an_edge_that_says_nothing_at_all_is_not_its_backend_s_sickness():
    late = Script(TOKEN, END, head_s=5.0)
    found = await probed(late, timeout_ms=50)
    assert (found.probe.result, late.asked[-1][0]) == ("failed", "http://edge/v1/models")
    stopped = Script(TOKEN, END, head_s=5.0, alive=HttpError("timeout", "no answer in time"))
    found = await probed(stopped, timeout_ms=50)
    assert (found.probe.result, found.probe.detail) == (
        "unasked",
        "not whole within 50 ms, and of the edge: no answer in time",
    )


async def test_a_probe_that_is_not_whole_in_time_has_failed():
    found = await probed(Script(TOKEN, 5.0, END), timeout_ms=50)
    assert (found.probe.result, found.probe.detail) == ("failed", "not whole within 50 ms")
