"""Predictions as attempts: REST JSON from the client, `PredictionService.Predict` to the server, REST JSON back.

Everything else about them (permits, breakers, retries, deadlines, books) is what every request has.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, TypeVar

import grpc.aio

from edge.protocol.malformed import MalformedError
from edge.protocol.predict.answer import answer
from edge.protocol.predict.request import Prediction, Target, read, target_of, tensors_of
from edge.protocol.predict.tensors import refuse
from edge.sources.pool import ConnectError
from edge.sources.tfserving.codes import error_of_rpc
from edge.sources.tfserving.wire import proto_of, spec_of, tensor_of_proto
from edge.streams.contracts import Ending, Outcome, Sink, UpstreamRequest
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.pb import tfserving_pb2 as pb
from streamkit.wire.pb import tfserving_pb2_grpc as services
from streamkit.wire.route import Candidate

if TYPE_CHECKING:
    from edge.sources.tfserving.link import GrpcLink

__all__ = ["PredictSource", "Predicting"]

_LOG = logging.getLogger("headrace.edge.sources")
T = TypeVar("T")
#: Larger bodies are turned in a thread, so that the token streams of this worker do not wait for them.
_IN_THREAD_BYTES: Final = 64 * 1024
#: Bytes of Python objects for each byte of a body: `1,` is 24 bytes of a float and 8 of its place in two lists.
_OBJECTS_PER_BYTE: Final = 16
#: Headers that go to the server as metadata.
_FORWARDED: Final = frozenset({b"x-request-id", b"traceparent", b"tracestate", b"x-sim", b"x-sim-attempt"})


class PredictSource:
    """Opens predictions to one server."""

    def __init__(self, candidate: Candidate, link: GrpcLink) -> None:
        self._candidate = candidate
        self._link = link

    def open(self, request: UpstreamRequest, sink: Sink) -> Predicting:
        """Begin an attempt; see `Source.open`."""
        return Predicting(self._candidate, self._link, request, sink)


class Predicting:
    """One prediction under way: the `Attempt`."""

    def __init__(self, candidate: Candidate, link: GrpcLink, request: UpstreamRequest, sink: Sink) -> None:
        self._name = candidate.backend
        self._link = link
        self._request = request
        self._sink = sink
        self._kept_bytes = 0
        self._given_up = False
        self._metadata = tuple(
            (key.decode(), value.decode("latin-1")) for key, value in request.headers if key in _FORWARDED
        )
        if candidate.api_key:
            self._metadata += (("authorization", f"Bearer {candidate.api_key}"),)
        link.active += 1
        self._task = asyncio.get_running_loop().create_task(self._run())
        # A callback and not a task around it: none of a task's code runs when it is cancelled before its first step.
        self._task.add_done_callback(self._over)

    def pause(self) -> None:
        """Nothing streams: the answer is whole or not there."""

    def resume(self) -> None:
        """As `pause`."""

    def cancel(self) -> None:
        """Give up: the RPC is cancelled, and the server hears of it."""
        self._given_up = True
        self._task.cancel()

    async def _run(self) -> Outcome:
        try:
            return await self._predict()
        except HeadraceError as error:
            return _broken(error)
        except ConnectError as exc:
            text = f"The backend {self._name} cannot be reached: {exc}."
            return _broken(HeadraceError(Code.BACKEND_ERROR, text))
        except MalformedError as exc:
            text = f"The answer of the backend {self._name} is malformed: {exc}."
            return _broken(HeadraceError(Code.BACKEND_ERROR, text))

    async def _predict(self) -> Outcome:
        target = target_of(self._request.path.decode())
        if target is None:
            text = f"The backend {self._name} takes predictions only: POST /v1/models/MODEL:predict."
            raise HeadraceError(Code.INVALID_REQUEST, text, param="model")
        body = self._request.body
        deadline_s = self._request.deadline_s
        with self._room(len(body)):
            prediction = await self._apart(lambda: read(body))
            channel = await self._link.ready()
            self._sink.sent()
            row, signature = prediction.row, prediction.signature
            try:
                made = await self._made(channel, target, prediction)
            except grpc.aio.AioRpcError as exc:
                raise error_of_rpc(self._name, exc, connected=self._link.connected) from None
            # Its values are tensors now; what they were made of must not wait for the server.
            del prediction
        stub = services.PredictionServiceStub(channel)
        try:
            reply = await stub.Predict(made, timeout=deadline_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as exc:
            if exc.code() is grpc.StatusCode.INVALID_ARGUMENT:
                self._link.forget(target, signature)
            raise error_of_rpc(self._name, exc, connected=self._link.connected) from None
        with self._room(reply.ByteSize()):
            said = await self._apart(lambda: _answer(reply, row=row))
        self._keep(len(said))
        return Outcome(ending=Ending.ANSWER, status=200, content_type=b"application/json", body=said)

    async def _made(self, channel: grpc.aio.Channel, target: Target, prediction: Prediction) -> pb.PredictRequest:
        name = prediction.signature
        timeout_s = self._request.deadline_s
        signature = await self._link.signature(channel, target, name, timeout_s=timeout_s, metadata=self._metadata)
        if signature is None:
            raise refuse("signature_name", f"{name!r} is no signature of the model {target.model}")

        def make() -> pb.PredictRequest:
            made = pb.PredictRequest(model_spec=spec_of(target, name))
            for alias, tensor in tensors_of(prediction, signature.inputs).items():
                made.inputs[alias].CopyFrom(proto_of(tensor))
            return made

        return await self._apart(make)

    async def _apart(self, work: Callable[[], T]) -> T:
        """Do `work` here, or in a thread where it is much."""
        return await asyncio.to_thread(work) if len(self._request.body) > _IN_THREAD_BYTES else work()

    def _keep(self, size: int) -> None:
        """Charge the answer to the process's budget until it is handed over.

        Raises:
            HeadraceError: BACKEND_ERROR over its bound, OUT_OF_MEMORY over the budget.
        """
        limit = self._link.limits.max_response_bytes
        if size > limit:
            text = f"The answer of the backend {self._name} is larger than max_response_bytes = {limit}."
            raise HeadraceError(Code.BACKEND_ERROR, text)
        self._reserve(size)
        self._kept_bytes = size

    @contextlib.contextmanager
    def _room(self, size: int) -> Iterator[None]:
        """Charge what lists of numbers take beside their text or their bytes, for as long as there are any.

        Raises:
            HeadraceError: OUT_OF_MEMORY; nothing was begun.
        """
        room = _OBJECTS_PER_BYTE * size
        self._reserve(room)
        try:
            yield
        finally:
            self._link.answers.release(room)

    def _reserve(self, size: int) -> None:
        if not self._link.answers.reserve(size):
            text = "The gateway's memory budget is used up. Try again shortly."
            raise HeadraceError(Code.OUT_OF_MEMORY, text)

    def _over(self, task: asyncio.Task[Outcome]) -> None:
        self._link.active -= 1
        if task.cancelled():
            # Not by us: the channel was closed under it.
            text = f"The connection to the backend {self._name} was closed."
            lost = _broken(HeadraceError(Code.BACKEND_ERROR, text))
            outcome = Outcome(ending=Ending.CANCELLED) if self._given_up else lost
        elif (exc := task.exception()) is not None:
            _LOG.error("a prediction failed", exc_info=exc)
            text = "The gateway failed while it asked for a prediction."
            outcome = _broken(HeadraceError(Code.INTERNAL, text))
        else:
            outcome = task.result()
        self._sink.end(outcome)
        self._link.answers.release(self._kept_bytes)


def _answer(reply: pb.PredictResponse, *, row: bool) -> bytes:
    return answer({name: tensor_of_proto(name, proto) for name, proto in reply.outputs.items()}, row=row)


def _broken(error: HeadraceError) -> Outcome:
    return Outcome(ending=Ending.BROKEN, error=error)
