"""A real inference server process for tests, and the stub to talk to it."""

from __future__ import annotations

import contextlib
import re
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from streamkit.wire.pb import inference_pb2 as pb
from streamkit.wire.pb.inference_pb2_grpc import InferenceServiceStub
from tests.support.processes import Running, launch

__all__ = ["InferenceProcess", "face", "inference", "request", "sound"]


@dataclass
class InferenceProcess:
    """A running inference server."""

    running: Running
    ready: dict[str, Any]
    channel: grpc.Channel

    @property
    def stub(self) -> InferenceServiceStub:
        """Synchronous calls."""
        return InferenceServiceStub(self.channel)

    def gauges(self) -> dict[str, float]:
        """Return the sum of each gauge of things held."""
        with urllib.request.urlopen(f"{self.ready['ops_url']}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        found: dict[str, float] = {}
        for name, value in re.findall(r"^headrace_inference_(\w+?)(?:\{.*?\})? (\S+)$", text, re.MULTILINE):
            found[name] = found.get(name, 0.0) + float(value)
        return found


@contextlib.contextmanager
def inference(folder: Path, settings: str = "") -> Iterator[InferenceProcess]:
    """Run `headrace inference` for the length of the block.

    Args:
        folder: for its log.
        settings: lines of the `[inference]` table, further tables after them.
    """
    file = folder / "inference.toml"
    file.write_text(f"[inference]\n{settings}\n")
    options = ["--config", str(file), "--port", "0", "--ops-port", "0"]
    with launch("inference", *options, folder=folder, name="inference") as running:
        ready = running.ready()
        own = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 64 * 1024 * 1024)]
        with grpc.insecure_channel(str(ready["url"]).removeprefix("grpc://"), options=own) as channel:
            yield InferenceProcess(running, ready, channel)


def face(frames: int = 1) -> bytes:
    """Return pictures: grey, with something in it."""
    rng = np.random.default_rng(3)
    return (rng.random((frames, 6, 320, 320), dtype=np.float32) * 0.2 + 0.5).tobytes()


def sound(frames: int = 1, rms: float = 0.5) -> bytes:
    """Return audio windows of a loudness."""
    return np.full((frames, 32, 16, 16), rms, dtype=np.float32).tobytes()


def request(frames: int = 1, **fields: Any) -> pb.InferBatchRequest:
    """Return a request that is right but for `fields`."""
    given: dict[str, Any] = {
        "model_id": "mouth", "visual_frames": face(frames), "audio_features": sound(frames), "batch_size": frames,
    }  # fmt: skip
    return pb.InferBatchRequest(**{**given, **fields})
