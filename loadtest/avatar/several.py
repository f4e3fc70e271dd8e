"""Several models in one inference server: in turns on one worker, their memory, and one that has no room.

Each person's face is a model of its own, so a worker seldom runs the same weights twice in a row. Copies of the
unet_328-cost model under different names stand for such faces: of equal cost, with weights and memory of their own.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import grpc
import msgspec

from loadtest.avatar.inference import CLAIMED_FPS, FPS, MESSAGES, mouth_request
from loadtest.launched import Running, service
from loadtest.relay import proc
from loadtest.relay.stats import Spread, spread
from streamkit.wire.pb import inference_pb2 as pb
from streamkit.wire.pb.inference_pb2_grpc import InferenceServiceStub

__all__ = ["Measured", "Several", "Swap", "Turns", "Weight", "several", "turns"]

#: The blueprint's figure for one model on a GPU.
CLAIMED_BYTES: Final = 500_000_000
_NAMES: Final = ("face-1", "face-2", "face-3", "face-4")
#: Models in turns. The first is what the others are compared with.
_COUNTS: Final = (1, 2, 4)
#: One frame runs while the next one waits, however many models there are: the worker never idles.
_UNDER_WAY: Final = 2
_TIMEOUT_S: Final = 120.0
_MIB: Final = 1024 * 1024
_GIB: Final = 1024 * _MIB


class Turns(msgspec.Struct, frozen=True, kw_only=True):
    """Frames of so many models in turns, one a run, by one worker with one thread."""

    models: int
    #: Models that there is room for at a time.
    room_for: int
    frames_per_s_in_all: Spread
    #: Of one model alone, within each round.
    of_one_model: Spread
    #: Of the run alone, without the wire and without loads.
    run_ms_per_frame: Spread
    #: What a run takes more than one of a model alone, within each round: the price of a switch.
    added_run_ms: Spread
    #: Loads for each frame: 0 where all fit.
    loads_per_frame: float
    #: The blueprint's 150 for a GPU worker is 1.
    of_claim: float
    #: Faces that speak at a time, at 25 frames a second each.
    speaking_faces_per_worker_extrapolated: float


class Weight(msgspec.Struct, frozen=True, kw_only=True):
    """Resident memory of the server for each model that is loaded and has run."""

    first_bytes: int
    each_further_bytes: Spread
    #: What the server's own books charge for one, and how much of the measured figure that is.
    charged_bytes: int
    charged_of_measured: float
    claimed_bytes: int = CLAIMED_BYTES
    #: Of each further one; the blueprint's 500 MB on a GPU is 1.
    of_claim: float
    models_per_gib_extrapolated: float


class Swap(msgspec.Struct, frozen=True, kw_only=True):
    """A model for which another one has to go: the wait of who asks for it, in milliseconds."""

    #: The other one's eviction included.
    load_ms: Spread
    first_run_ms: Spread
    #: The same model again, now that it is there.
    next_run_ms: Spread
    #: Load and first run, in runs of a model that is there.
    of_a_run: Spread


class Several(msgspec.Struct, frozen=True, kw_only=True):
    """Everything; rounds are interleaved."""

    device: str
    rounds: int
    turns: list[Turns]
    memory: Weight
    swap: Swap


class Measured(msgspec.Struct, frozen=True):
    """What one measurement found."""

    fps: float
    run_ms: float
    loads_per_frame: float


def several(folder: Path, cpus: set[int], *, seconds: float, rounds: int, device: str) -> Several:
    """Run both servers, one with room for all models and one with room for all but one, and measure in turns.

    Args:
        folder: for their files.
        cpus: where they may run; while one is measured the other sleeps.
        seconds: of each measurement.
        rounds: how many of each.
        device: what computes, in words.

    Raises:
        SiteError: a server does not start.
        grpc.RpcError: a server refuses.
    """
    with service("inference", _settings(4_096), folder, cpus) as roomy, _channel(roomy) as channel:
        stub = InferenceServiceStub(channel)
        grown = [_grown(stub, name, lambda: proc.rss_bytes([roomy.pid])) for name in _NAMES]
        charged_mb = max(model.memory_mb for model in stub.ListModels(pb.ListModelsRequest()).models)
        room = len(_NAMES) - 1
        with service("inference", _settings(charged_mb * room), folder, cpus) as narrow, _channel(narrow) as other:
            crowded = InferenceServiceStub(other)
            rows: dict[tuple[int, int], list[Measured]] = {}
            swaps: list[tuple[float, float, float]] = []
            for _ in range(rounds):
                for count in _COUNTS:
                    rows.setdefault((count, len(_NAMES)), []).append(_measured(stub, _NAMES[:count], seconds))
                rows.setdefault((len(_NAMES), room), []).append(_measured(crowded, _NAMES, seconds))
                swaps += _swaps(crowded)
    return Several(
        device=device,
        rounds=rounds,
        turns=turns(rows),
        memory=_weight(grown, charged_mb * _MIB),
        swap=Swap(
            load_ms=_spread([load for load, _, _ in swaps]),
            first_run_ms=_spread([first for _, first, _ in swaps]),
            next_run_ms=_spread([again for _, _, again in swaps]),
            of_a_run=_spread([(load + first) / again for load, first, again in swaps]),
        ),
    )


def turns(rows: dict[tuple[int, int], list[Measured]]) -> list[Turns]:
    """Return each row beside the first, round by round.

    Args:
        rows: by models, and models that there is room for; the first is one model alone.
    """
    alone = next(iter(rows.values()))
    found = []
    for (models, room), measured in rows.items():
        fps = _spread([one.fps for one in measured])
        found.append(
            Turns(
                models=models,
                room_for=room,
                frames_per_s_in_all=fps,
                of_one_model=_spread([one.fps / base.fps for one, base in zip(measured, alone, strict=True)]),
                run_ms_per_frame=_spread([one.run_ms for one in measured]),
                added_run_ms=_spread([one.run_ms - base.run_ms for one, base in zip(measured, alone, strict=True)]),
                loads_per_frame=statistics.mean(one.loads_per_frame for one in measured),
                of_claim=fps.median / CLAIMED_FPS,
                speaking_faces_per_worker_extrapolated=fps.median / FPS,
            )
        )
    return found


def _settings(memory_mb: int) -> str:
    # One frame a run: what several faces of one model gain by sharing a run is in the batches.
    lines = ["[inference]", "workers_per_gpu = 1", "threads_per_worker = 1", "max_batch = 1"]
    lines += [f"memory_mb_per_gpu = {memory_mb}", 'eviction = "lru"', "load_wait_ms = 60_000"]
    for name in _NAMES:
        lines += [f"[inference.models.{name}]", 'model_path = "reference:unet"']
    return "\n".join(lines) + "\n"


def _channel(server: Running) -> grpc.Channel:
    return grpc.insecure_channel(server.address, options=MESSAGES)


def _grown(stub: Any, name: str, rss: Callable[[], int]) -> int:
    """Load a model and run it twice; return the bytes that the server grew by."""
    before = rss()
    request = mouth_request(stub, name)
    for _ in range(2):
        stub.InferBatch(request, timeout=_TIMEOUT_S)
    return rss() - before


def _weight(grown: Sequence[int], charged_bytes: int) -> Weight:
    further = _spread([float(one) for one in grown[1:]])
    return Weight(
        first_bytes=grown[0],
        each_further_bytes=further,
        charged_bytes=charged_bytes,
        charged_of_measured=charged_bytes / further.median,
        of_claim=further.median / CLAIMED_BYTES,
        models_per_gib_extrapolated=_GIB / further.median,
    )


def _measured(stub: Any, names: Sequence[str], seconds: float) -> Measured:
    """Ask for a frame of each model in turns, for about `seconds`."""
    asked = itertools.cycle([mouth_request(stub, name) for name in names])

    def ask() -> Any:
        return stub.InferBatch.future(next(asked), timeout=_TIMEOUT_S)

    # Once around, so that who is there is by whose turn it is, and not by what went before.
    for _ in range(len(names) + _UNDER_WAY):
        ask().result()
    before = _loads(stub)
    under_way = deque(ask() for _ in range(_UNDER_WAY))
    frames, run_ms = 0, 0.0
    begun = time.perf_counter()
    while (took := time.perf_counter() - begun) < seconds:
        run_ms += under_way.popleft().result().inference_time_ms
        under_way.append(ask())
        frames += 1
    for last in under_way:
        last.result()
    return Measured(frames / took, run_ms / frames, (_loads(stub) - before) / (frames + _UNDER_WAY))


def _loads(stub: Any) -> int:
    return sum(model.loads for model in stub.GetModelStats(pb.GetModelStatsRequest(), timeout=_TIMEOUT_S).stats)


def _swaps(stub: Any) -> list[tuple[float, float, float]]:
    """Have each model loaded in another one's place; return the milliseconds of that, its first run and the next."""
    requests = {name: mouth_request(stub, name) for name in _NAMES}
    found = []
    # Who is asked for in a circle that is larger than the room by one is never there.
    for name in (*_NAMES[:-1], _NAMES[-1], *_NAMES[:-1]):
        load_ms = stub.LoadModel(pb.LoadModelRequest(model_id=name), timeout=_TIMEOUT_S).load_time_ms
        first, again = (stub.InferBatch(requests[name], timeout=_TIMEOUT_S).inference_time_ms for _ in range(2))
        found.append((load_ms, first, again))
    return found[len(_NAMES) - 1 :]


def _spread(values: Sequence[float]) -> Spread:
    found = spread(values)
    if found is None:
        raise ValueError("no rounds")
    return found
