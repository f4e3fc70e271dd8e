"""Who is sampled, and what is said where the packages are missing; what is sent is tested with a real receiver."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterator
from time import monotonic

import pytest

from streamkit.ops.metrics import Metrics
from streamkit.ops.settings import SettingsError
from streamkit.ops.traces import Tracer

#: Nobody answers there, and nothing is ever sent: no span ends here.
NOWHERE = "http://127.0.0.1:9/v1/traces"


@contextlib.contextmanager
def tracing(ratio: float) -> Iterator[Tracer]:
    tracer = Tracer(NOWHERE, ratio, service="s", instance="i", metrics=Metrics(), key="edge.traces_url")
    try:
        yield tracer
    finally:
        tracer.close()


def parents(count: int) -> list[bytes]:
    dice = random.Random(11)
    return [b"00-%032x-%016x-00" % (dice.getrandbits(128) | 1, dice.getrandbits(64) | 1) for _ in range(count)]


def sampled(tracer: Tracer, parent: bytes) -> bool:
    return tracer.begin("x", ((b"traceparent", parent),), monotonic()) is not None


def test_a_ratio_of_traces_is_sampled_and_everybody_samples_the_same() -> None:
    asked = parents(2_000)
    with tracing(0.25) as one, tracing(0.25) as other, tracing(0.5) as more:
        ours = [parent for parent in asked if sampled(one, parent)]
        assert ours == [parent for parent in asked if sampled(other, parent)]
        assert all(sampled(more, parent) for parent in ours)
    assert len(ours) == pytest.approx(500, rel=0.15)


def test_the_client_s_own_flag_decides_nothing() -> None:
    with tracing(0.3) as tracer:
        for parent in parents(100):
            assert sampled(tracer, parent) == sampled(tracer, parent[:-2] + b"01")


@pytest.mark.parametrize(("ratio", "wanted"), [(0.0, 0), (1.0, 50)])
def test_none_and_all(ratio: float, wanted: int) -> None:
    with tracing(ratio) as tracer:
        assert sum(sampled(tracer, parent) for parent in parents(50)) == wanted
        assert sum(tracer.begin("x", (), monotonic()) is not None for _ in range(50)) == wanted


def test_a_trace_goes_on_below_its_parent() -> None:
    (parent,) = parents(1)
    with tracing(1.0) as tracer:
        trace = tracer.begin("x", ((b"tracestate", b"a=b"), (b"traceparent", parent)), monotonic())
        assert trace is not None
        assert trace.id == parent[3:35].decode()
        child = trace.child("y", monotonic()).traceparent
        assert child.startswith(parent[:36])
        assert child.endswith(b"-01")
        assert child != trace.root.traceparent != parent


def test_missing_packages_are_one_line_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(SettingsError, match=r"^edge\.traces_url: .* is missing: pip install 'headrace\[traces\]'$"):
        Tracer(NOWHERE, 1.0, service="s", instance="i", metrics=Metrics(), key="edge.traces_url")
