"""Predictions over a real gRPC connection: what goes along, what is kept, and what comes back when it breaks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from edge.sources.engine import EngineLimits
from edge.sources.pool import PoolSettings
from edge.sources.tfserving.link import GrpcLink
from edge.streams.contracts import Ending, Outcome, UpstreamRequest
from streamkit.flow.budget import Account, Budget
from streamkit.wire.backend import Capabilities
from streamkit.wire.errors import Code
from streamkit.wire.events import Batch
from streamkit.wire.pb import tfserving_pb2 as pb
from streamkit.wire.pb import tfserving_pb2_grpc as services
from streamkit.wire.route import Candidate
from tests.unit.edge.scripted import DEADLINE_S, News

pytestmark = pytest.mark.anyio
Script = Callable[[Any], Awaitable[None]]


@pytest.fixture
def anyio_backend() -> str:
    """One loop only: gRPC keeps one poller for the whole process."""
    return "asyncio"


class Server(services.PredictionServiceServicer):
    """Answers `y = x`; `script` may do something else first."""

    def __init__(self) -> None:
        self.script: Script | None = None
        self.metadata_asked = 0
        self.metadata: dict[str, Any] = {}
        self.remaining_s = 0.0
        self.cancelled = False
        self.news = News()

    async def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.metadata = dict(context.invocation_metadata())
        self.remaining_s = context.time_remaining()
        try:
            self.news.tell()
            if self.script is not None:
                await self.script(context)
        except asyncio.CancelledError:
            self.cancelled = True
            self.news.tell()
            raise
        return pb.PredictResponse(outputs={"y": request.inputs["x"]})

    async def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.metadata_asked += 1
        shape = pb.TensorShapeProto(dim=[pb.TensorShapeProto.Dim(size=-1)])
        one = pb.SignatureDef(inputs={"x": pb.TensorInfo(dtype=pb.DT_FLOAT, tensor_shape=shape)})
        answer = pb.GetModelMetadataResponse()
        answer.metadata["signature_def"].Pack(pb.SignatureDefMap(signature_def={"serving_default": one}))
        return answer


class Sink:
    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        self.was_sent = False
        self.news = News()

    def sent(self) -> None:
        self.was_sent = True

    def feed(self, batch: Batch) -> None:
        raise AssertionError("a prediction has no events")

    def end(self, outcome: Outcome) -> None:
        assert self.outcome is None
        self.outcome = outcome
        self.news.tell()

    async def ended(self) -> Outcome:
        await self.news.until(lambda: self.outcome is not None)
        assert self.outcome is not None
        return self.outcome


class Site:
    """A server, a link to it, and a way to ask."""

    def __init__(self, server: Server, running: grpc.aio.Server, link: GrpcLink, answers: Account) -> None:
        self.server = server
        self.running = running
        self.link = link
        self.answers = answers
        self.source = link.source(candidate())

    def ask(self, body: bytes = b'{"instances":[1]}', deadline_s: float | None = None) -> tuple[Any, Sink]:
        sink = Sink()
        request = UpstreamRequest(
            path=b"/v1/models/m:predict",
            body=body,
            stream=False,
            deadline_s=deadline_s,
            headers=((b"x-request-id", b"r1"), (b"cookie", b"secret")),
        )
        return self.source.open(request, sink), sink

    def assert_given_back(self) -> None:
        assert self.link.active == 0
        assert self.answers.used_bytes == 0


def candidate(url: str = "grpc://engine:1") -> Candidate:
    return Candidate(
        backend="tf",
        engine="tfserving",
        url=url,
        model="m",
        max_inflight=8,
        capabilities=Capabilities(),
        api_key="k1",
    )


def link_to(url: str, answers: Account, *, connect_s: float = 5.0) -> GrpcLink:
    settings = PoolSettings(connect_s=connect_s, idle_s=4.0, max_idle=8, rcvbuf_bytes=65_536)
    return GrpcLink(url, settings, EngineLimits(max_event_bytes=1 << 16, max_response_bytes=1 << 16), answers)


@contextlib.asynccontextmanager
async def site() -> AsyncIterator[Site]:
    server = Server()
    running = grpc.aio.server()
    services.add_PredictionServiceServicer_to_server(server, running)
    port = running.add_insecure_port("127.0.0.1:0")
    await running.start()
    answers = Budget(1 << 20).account("answers")
    link = link_to(f"grpc://127.0.0.1:{port}", answers)
    try:
        yield Site(server, running, link, answers)
    finally:
        link.close()
        await running.stop(None)


async def test_what_goes_along() -> None:
    async with site() as one:
        _, sink = one.ask(deadline_s=30.0)
        outcome = await sink.ended()
        assert (outcome.ending, outcome.status, outcome.body) == (Ending.ANSWER, 200, b'{"predictions":[1.0]}')
        assert sink.was_sent
        assert one.server.metadata["authorization"] == "Bearer k1"
        assert one.server.metadata["x-request-id"] == "r1"
        assert "cookie" not in one.server.metadata
        assert 0 < one.server.remaining_s < 31
        one.assert_given_back()


async def test_a_signature_is_asked_for_once_and_anew_after_it_misled() -> None:
    async def refuse(context: Any) -> None:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "another shape")

    async with site() as one:
        for _ in range(2):
            await one.ask()[1].ended()
        assert one.server.metadata_asked == 1
        one.server.script = refuse
        outcome = await one.ask()[1].ended()
        assert outcome.error is not None
        assert (outcome.error.code, "another shape" in outcome.error.message) == (Code.INVALID_REQUEST, True)
        one.server.script = None
        await one.ask()[1].ended()
        assert one.server.metadata_asked == 2


async def test_the_server_hears_of_a_cancel() -> None:
    async def hang(context: Any) -> None:
        await asyncio.Event().wait()

    async with site() as one:
        one.server.script = hang
        attempt, sink = one.ask()
        await one.server.news.until(lambda: one.server.metadata)
        attempt.cancel()
        assert (await sink.ended()).ending is Ending.CANCELLED
        await one.server.news.until(lambda: one.server.cancelled)
        one.assert_given_back()


async def test_a_cancel_before_anything_was_sent() -> None:
    async with site() as one:
        attempt, sink = one.ask()
        attempt.cancel()
        assert (await sink.ended()).ending is Ending.CANCELLED
        one.assert_given_back()


async def test_the_deadline_is_the_calls() -> None:
    async def hang(context: Any) -> None:
        await asyncio.Event().wait()

    async with site() as one:
        one.server.script = hang
        outcome = await one.ask(deadline_s=0.05)[1].ended()
        assert outcome.error is not None
        assert outcome.error.code is Code.BACKEND_TIMEOUT
        one.assert_given_back()


async def test_a_lost_connection_is_told_without_an_address() -> None:
    async def hang(context: Any) -> None:
        await asyncio.Event().wait()

    async with site() as one:
        one.server.script = hang
        _, sink = one.ask()
        await one.server.news.until(lambda: one.server.metadata)
        await one.running.stop(None)
        outcome = await sink.ended()
        assert outcome.ending is Ending.BROKEN
        assert outcome.error is not None
        assert outcome.error.code in (Code.BACKEND_ERROR, Code.NO_BACKEND)
        assert "127.0.0.1" not in outcome.error.message
        one.assert_given_back()


async def test_a_prediction_too_large_for_the_budget_is_refused_before_it_is_read() -> None:
    async with site() as one:
        outcome = await one.ask(b'{"instances":[' + b"1," * 40_000 + b"1]}")[1].ended()
        assert outcome.error is not None
        assert outcome.error.code is Code.OUT_OF_MEMORY
        assert not one.server.metadata_asked
        one.assert_given_back()


async def test_nobody_there() -> None:
    answers = Budget(1 << 20).account("answers")
    link = link_to("grpc://127.0.0.1:9", answers)
    sink = Sink()
    request = UpstreamRequest(path=b"/v1/models/m:predict", body=b'{"instances":[1]}', stream=False)
    link.source(candidate()).open(request, sink)
    async with asyncio.timeout(DEADLINE_S):
        outcome = await sink.ended()
    assert outcome.error is not None
    assert (outcome.error.code, sink.was_sent) == (Code.BACKEND_ERROR, False)
    assert "cannot be reached" in outcome.error.message
    link.close()


async def test_other_paths_are_refused_in_words() -> None:
    async with site() as one:
        sink = Sink()
        request = UpstreamRequest(path=b"/v1/chat/completions", body=b"{}", stream=False)
        one.source.open(request, sink)
        outcome = await sink.ended()
        assert outcome.error is not None
        assert (outcome.error.code, outcome.error.param) == (Code.INVALID_REQUEST, "model")
