"""Frames a second and bytes a frame of a real inference server, over loopback."""

from __future__ import annotations

import array
import time
from typing import Any, Final

import grpc
import msgspec

from streamkit.wire.pb import inference_pb2 as pb
from streamkit.wire.pb.inference_pb2_grpc import InferenceServiceStub

__all__ = ["CLAIMED_FPS", "FPS", "MESSAGES", "Encoded", "Rate", "encodings", "mouth_request", "rate", "sound"]

#: The blueprint's figure for one worker of one GPU.
CLAIMED_FPS: Final = 150.0
#: Of a face that speaks.
FPS: Final = 25
#: Options of a channel: raw frames are larger than gRPC expects.
MESSAGES: Final = (("grpc.max_receive_message_length", 64 * 1024 * 1024),)
_CLAIMED_BYTES: Final = 3 * 320 * 320 * 4
_AUDIO_NUMBERS: Final = 32 * 16 * 16
_MEL_NUMBERS: Final = 80 * 16
_TIMEOUT_S: Final = 120.0


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """How fast one worker runs the unet_328-cost model."""

    #: A CPU stands in for the GPU that the claim is about.
    device: str
    batch: int
    frames: int
    frames_per_s_per_worker: float
    #: Of the run alone, without the wire.
    run_ms_per_frame: float
    claimed_frames_per_s_per_worker: float = CLAIMED_FPS
    of_claim: float


class Encoded(msgspec.Struct, frozen=True, kw_only=True):
    """What a frame weighs in one encoding; the picture is a smooth one, so a face's JPEG is larger."""

    encoding: str
    #: With its message around it.
    answer_bytes: int
    #: With frames registered, so audio only.
    request_bytes: int
    #: The blueprint's 1.23 MB answer is 1.
    answer_of_claim: float


def rate(channel: grpc.Channel, *, batch: int, seconds: float, device: str) -> Rate:
    """Run the reference unet in batches, one after the other, for about `seconds`.

    Raises:
        grpc.RpcError: the server refuses.
    """
    stub = InferenceServiceStub(channel)
    request = _request(_registered(stub, "unet"), "unet", batch, pb.UINT8)
    stub.InferBatch(request, timeout=_TIMEOUT_S)
    frames, run_ms = 0, 0.0
    begun = time.perf_counter()
    while (took := time.perf_counter() - begun) < seconds:
        run_ms += stub.InferBatch(request, timeout=_TIMEOUT_S).inference_time_ms
        frames += batch
    fps = frames / took
    return Rate(
        device=device, batch=batch, frames=frames, frames_per_s_per_worker=fps, run_ms_per_frame=run_ms / frames,
        of_claim=fps / CLAIMED_FPS,
    )  # fmt: skip


def sound(channel: grpc.Channel) -> int:
    """Have one window of silence encoded, and return the bytes of its features.

    Raises:
        grpc.RpcError: the server refuses.
    """
    request = pb.EncodeAudioRequest(model_id="ave", mel=bytes(_MEL_NUMBERS * 4))
    return len(InferenceServiceStub(channel).EncodeAudio(request, timeout=_TIMEOUT_S).features)


def encodings(channel: grpc.Channel) -> list[Encoded]:
    """Return what a frame of the reference mouth weighs in each encoding.

    Raises:
        grpc.RpcError: the server refuses; without PyAV it has no JPEG.
    """
    stub = InferenceServiceStub(channel)
    ref = _registered(stub, "mouth")
    found = []
    for encoding in (pb.FLOAT32, pb.FLOAT16, pb.UINT8, pb.JPEG):
        request = _request(ref, "mouth", 1, encoding)
        size = stub.InferBatch(request, timeout=_TIMEOUT_S).ByteSize()
        found.append(
            Encoded(
                encoding=pb.Encoding.Name(encoding),
                answer_bytes=size,
                request_bytes=request.ByteSize(),
                answer_of_claim=size / _CLAIMED_BYTES,
            )
        )
    return found


def mouth_request(
    stub: Any, model: str = "mouth", encoding: pb.Encoding.ValueType = pb.UINT8, *, raw: bool = False
) -> pb.InferBatchRequest:
    """Return a request for one mouth.

    Args:
        stub: of the server.
        model: that draws it; it is loaded.
        encoding: of the answer.
        raw: the frames travel as float32 in the request, as in the blueprint; else they are registered now.

    Raises:
        grpc.RpcError: the server refuses.
    """
    request = _request("" if raw else _registered(stub, model), model, 1, encoding)
    if raw:
        del request.visual_index[:]
        request.visual_frames = (array.array("f", (value / 255 for value in _plane())) * 6).tobytes()
    return request


def _registered(stub: Any, model: str) -> str:
    frames = pb.RegisterVisualsRequest(model_id=model, frames=_plane() * 6, encoding=pb.UINT8)
    return str(stub.RegisterVisuals(frames, timeout=_TIMEOUT_S).visual_ref)


def _plane() -> bytes:
    # A smooth picture: what JPEG makes of noise says nothing about faces.
    return bytes((x + y) * 255 // 640 for y in range(320) for x in range(320))


def _request(ref: str, model: str, batch: int, encoding: pb.Encoding.ValueType) -> pb.InferBatchRequest:
    audio = array.array("f", [0.5]) * (_AUDIO_NUMBERS * batch)
    return pb.InferBatchRequest(
        model_id=model, visual_ref=ref, visual_index=[0] * batch, audio_features=audio.tobytes(), batch_size=batch,
        output_encoding=encoding,
    )  # fmt: skip
