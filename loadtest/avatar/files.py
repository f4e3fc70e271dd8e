"""Pictures as files, and the way between compositor and inference server: what one of each costs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Final

import grpc
import msgspec

from loadtest.avatar.faces import AVATARS, CLAIMED_ENCODE_MS
from loadtest.avatar.inference import MESSAGES, mouth_request
from streamkit.wire.pb import compositor_pb2 as pb
from streamkit.wire.pb import inference_pb2
from streamkit.wire.pb.compositor_pb2_grpc import CompositorStub
from streamkit.wire.pb.inference_pb2_grpc import InferenceServiceStub

__all__ = ["Hop", "Still", "hop", "stills"]

_TIMEOUT_S: Final = 120.0
#: The blueprint's figures: what the way between two servers may add, a PNG, and a compositor's network card.
CLAIMED_HOP_MS: Final = 2.0
CLAIMED_PNG_BYTES: Final = 300_000
CARD_GBPS: Final = 10


class Still(msgspec.Struct, frozen=True, kw_only=True):
    """A picture as a file, in milliseconds."""

    size: str
    image: str
    compose_ms: float
    encode_ms: float
    bytes_per_frame: float
    #: Encoding: the middle of the blueprint's 5 to 10 ms is 1.
    encode_of_claim: float
    #: The blueprint's PNG of 300 KB is 1.
    bytes_of_claim: float


class Hop(msgspec.Struct, frozen=True, kw_only=True):
    """The way of one mouth over loopback: asked for in a stream, less the server's own waiting and running."""

    requests: int
    #: Whether frames travel in every request and answers as float32, as in the blueprint; else frames are registered
    #: once and answers are bytes.
    raw: bool
    round_trip_ms: float
    of_which_server_ms: float
    hop_ms: float
    #: What the blueprint expects to separate two servers by, network and all: 42 ms instead of 40.
    claimed_hop_ms: float = CLAIMED_HOP_MS
    #: Over loopback, so the network is not in it.
    hop_of_claim: float
    request_bytes: int
    answer_bytes: int
    #: With the time that both messages take on a card of 10 Gbit/s, the compositor's in the blueprint.
    hop_over_10_gbps_ms_extrapolated: float


def stills(address: str, count: int) -> list[Still]:
    """Have pictures of each size made into files.

    Raises:
        grpc.RpcError: the compositor refuses.
    """
    found = []
    with grpc.insecure_channel(address, options=MESSAGES) as channel:
        stub = CompositorStub(channel)
        for name, width, height, _ in AVATARS:
            for image in (pb.PNG, pb.JPG):
                request = pb.RenderFramesRequest(avatar=name, max_frames=count, image=image)
                frames = list(stub.RenderFrames(request, timeout=_TIMEOUT_S))
                encode_ms = statistics.median(frame.encode_ms for frame in frames)
                size = statistics.mean(len(frame.image) for frame in frames)
                found.append(
                    Still(
                        size=f"{width}x{height}",
                        image=pb.Image.Name(image),
                        compose_ms=statistics.median(frame.compose_ms for frame in frames),
                        encode_ms=encode_ms,
                        bytes_per_frame=size,
                        encode_of_claim=encode_ms / CLAIMED_ENCODE_MS,
                        bytes_of_claim=size / CLAIMED_PNG_BYTES,
                    )
                )
    return found


def hop(channel: grpc.Channel, requests: int, *, raw: bool = False) -> Hop:
    """Ask for mouths one after the other, in one stream, as the compositor does.

    Args:
        channel: to the server.
        requests: how many.
        raw: as the blueprint's messages are, in place of ours.

    Raises:
        grpc.RpcError: the server refuses.
    """
    stub = InferenceServiceStub(channel)
    request = mouth_request(stub, encoding=inference_pb2.FLOAT32 if raw else inference_pb2.UINT8, raw=raw)
    took: list[float] = []
    served: list[float] = []
    begun = 0.0

    def asked() -> Iterator[inference_pb2.InferStreamRequest]:
        nonlocal begun
        for seq in range(requests):
            while len(took) < seq:
                time.sleep(0)
            begun = time.perf_counter()
            yield inference_pb2.InferStreamRequest(seq=seq, request=request)

    size = 0
    for answer in stub.InferStream(asked(), timeout=_TIMEOUT_S):
        if answer.HasField("response"):
            took.append((time.perf_counter() - begun) * 1000)
            served.append(answer.response.inference_time_ms + answer.response.queue_time_ms)
            size = answer.ByteSize()
    apart = [one - other for one, other in zip(took, served, strict=True)]
    hop_ms = statistics.median(apart)
    return Hop(
        requests=requests,
        raw=raw,
        round_trip_ms=statistics.median(took),
        of_which_server_ms=statistics.median(served),
        hop_ms=hop_ms,
        hop_of_claim=hop_ms / CLAIMED_HOP_MS,
        request_bytes=request.ByteSize(),
        answer_bytes=size,
        hop_over_10_gbps_ms_extrapolated=hop_ms + (request.ByteSize() + size) * 8 / (CARD_GBPS * 1e6),
    )
