from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec
import pytest

from control.health import Finding
from control.run import api_keys
from control.service import Control
from control.settings import ControlSettings
from streamkit.ops.http_client import Response
from streamkit.ops.settings import SettingsError
from streamkit.wire.backend import Backend
from streamkit.wire.route import RouteAnswer, RouteRequest

GPU = Backend(name="gpu", engine="vllm", url="http://127.0.0.1:9", models=("m",))


class Broken:
    """A client with a bug, which says when it was called twice."""

    def __init__(self) -> None:
        self.calls = 0
        self.twice = asyncio.Event()

    async def get(self, url: str, *, timeout_ms: int, headers: object = ()) -> Response:
        self.calls += 1
        if self.calls == 2:
            self.twice.set()
        raise KeyError("a bug of ours")


@pytest.mark.anyio
async def test_a_bug_in_a_probe_is_counted_and_does_not_end_the_watch(caplog):
    client = Broken()
    events: list[tuple[str, Mapping[str, object]]] = []
    control = Control(
        ControlSettings(probe_interval_ms=1), (GPU,), client=client, on_event=lambda *event: events.append(event)
    )
    async with control.running(), asyncio.timeout(10):
        await client.twice.wait()
    assert control.counters.probe_errors >= 1
    assert "a bug of ours" in caplog.text
    assert events == [("backend.down", {"backend": "gpu", "detail": "the probe itself failed, see control's log"})]


def test_an_answer_is_encoded_once_for_each_snapshot():
    control = Control(ControlSettings(), (GPU,), client=Broken())
    control.registry.observe("gpu", Finding(ok=True))
    first = control.route(RouteRequest(model="m"))
    assert control.route(RouteRequest(model="m")) is first
    assert control.route(RouteRequest(model="m", priority_class=1)) is not first
    control.registry.observe("gpu", Finding(ok=True, detail="odd"))
    second = control.route(RouteRequest(model="m"))
    assert msgspec.json.decode(second, type=RouteAnswer).snapshot == control.board.sequence
    assert control.counters.routed == 4


def test_made_up_questions_do_not_fill_memory():
    control = Control(ControlSettings(), (GPU,), client=Broken())
    control.registry.observe("gpu", Finding(ok=True))
    for number in range(2_000):
        control.route(RouteRequest(model="m", tenant_class=f"t{number}"))
        control.route(RouteRequest(model=f"nonesuch {number}"))
    assert len(control._answers) <= 1_024
    assert control.counters.shed == {"model_not_found": 2_000}


def test_keys_come_from_the_environment():
    with_key = Backend(name="k", engine="vllm", url="http://127.0.0.1:9", api_key_env="ENGINE_KEY")
    assert api_keys((GPU, with_key), {"ENGINE_KEY": "s3cret"}) == {"k": "s3cret"}
    with pytest.raises(SettingsError, match="backend k: the environment has no ENGINE_KEY"):
        api_keys((with_key,), {"ENGINE_KEY": ""})


@pytest.mark.parametrize(
    "bad",
    [{"port": 70_000}, {"probe_interval_ms": 0}, {"region_weights": {"eu": -1}}, {"policy": "random"}, {"x": 1}],
)
def test_settings_are_checked(bad):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(bad, ControlSettings)
