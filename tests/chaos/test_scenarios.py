"""A bad network between clients and the edge, and between the edge and an engine: what the gateway promises holds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.support.chaos import Chaos, chaos
from tests.support.exchange import Answer, ask, chat, stream
from tests.support.processes import launch, until
from tests.support.rig import MODEL, Rig, ms, rig

pytestmark = pytest.mark.slow
TOKENS = 24
#: Slow enough that what happens after some bytes happens in mid-stream.
SIM = f"seed=11,tokens={TOKENS},itl_ms=5"
EDGE = {"idle_ms": ms(1_000), "first_event_ms": ms(1_500), "slow_reader_ms": ms(2_000)}
LINKS = ["client-edge", "edge-engine"]


class Site:
    """A gateway with a chaos proxy on both of its sides."""

    def __init__(self, gateway: Rig, outer: Chaos, inner: Chaos, engine_url: str) -> None:
        self.gateway = gateway
        self.links = {"client-edge": outer, "edge-engine": inner}
        self.url = outer.url
        body = chat(stream=True, model=MODEL)
        self.expected = ask(engine_url, "/v1/chat/completions", body, headers={"x-sim": SIM}).text
        self._engine_url = engine_url
        assert self.expected

    def ask(self) -> Answer:
        with stream(self.url, SIM) as asking:
            return asking.read()

    def wait_quiet(self) -> None:
        """Wait until edge and engine hold nothing for any request."""

        def busy() -> dict[str, float]:
            stats = ask(self._engine_url, "/sim/stats").json
            return {**self.gateway.held(), **{k: stats[k] for k in ("running", "waiting", "open") if stats[k]}}

        until(lambda: not busy(), what=f"everything given back: {busy()}")


@pytest.fixture(scope="module")
def module_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("chaos")
    config = folder / "engine.toml"
    config.write_text(f'[simulator]\nmodels = ["{MODEL}"]\nttft_ms = 2.0\nitl_ms = 1.0\n')
    with launch("simulate", "--config", str(config), "--port", "0", folder=folder, name="engine") as engine:
        engine_url = engine.ready()["url"]
        with (
            chaos(engine_url, folder, name="inner") as inner,
            rig(folder, {"alpha": {}}, edge=EDGE, backends={"url": inner.url}) as gateway,
            chaos(gateway.url, folder, name="outer") as outer,
        ):
            yield Site(gateway, outer, inner, engine_url)


@pytest.fixture
def site(module_site: Site) -> Iterator[Site]:
    """The site with nothing wrong; after the test everything must have been given back."""
    yield module_site
    for link in module_site.links.values():
        link.clear()
    module_site.wait_quiet()
    # Control may have found the engine down; the next test begins with a good one.
    until(lambda: module_site.gateway.post(chat(), {"x-sim": "tokens=1"}).status == 200, ms=10_000)


HARMLESS = {
    "latency": [{"toxic": "latency", "ms": 30, "jitter_ms": 25}],
    "slices": [{"toxic": "slice", "bytes": 7}],
    "slow": [{"toxic": "bandwidth", "bytes_per_s": 20_000}],
    "slow-slices": [{"toxic": "slice", "bytes": 11, "gap_ms": 1}, {"toxic": "latency", "ms": 5}],
}


@pytest.mark.parametrize("where", LINKS)
@pytest.mark.parametrize("toxics", HARMLESS.values(), ids=HARMLESS)
def test_a_slow_network_loses_no_token_and_doubles_none(site, where, toxics):
    site.links[where].set(*toxics)
    answer = site.ask()
    assert (answer.status, answer.text, answer.done, answer.whole) == (200, site.expected, True, True)
    assert answer.errors == []


@pytest.mark.parametrize("toxic", ["reset", "half-close"])
def test_an_engine_that_breaks_off_is_told_and_no_finish_reason_is_made_up(site, toxic):
    site.links["edge-engine"].set({"toxic": toxic, "after_bytes": 3_000, "direction": "down"})
    answer = site.ask()
    assert answer.status == 200
    assert answer.done
    assert len(answer.errors) == 1
    assert answer.finish_reasons == []
    assert site.expected.startswith(answer.text)
    assert answer.text


def test_an_engine_that_cannot_be_reached_is_a_5xx(site):
    site.links["edge-engine"].set({"toxic": "refuse"})
    site.links["edge-engine"].cut()
    answer = site.ask()
    assert answer.status in (502, 503)
    assert "retry-after" in answer.headers


def test_an_engine_whose_network_stalls_is_given_up(site):
    site.links["edge-engine"].set({"toxic": "stall", "after_bytes": 3_000, "direction": "down"})
    answer = site.ask()
    assert answer.done
    assert [error["code"] for error in answer.errors] == ["stream_stalled"]
    assert site.expected.startswith(answer.text)


def test_a_stall_that_passes_costs_nothing(site):
    inner = site.links["edge-engine"]
    inner.set({"toxic": "stall", "after_bytes": 3_000, "direction": "down"})
    with stream(site.url, SIM) as asking:
        asking.head()
        until(lambda: inner.state()["held_bytes"] > 0, what="the stall has begun")
        inner.clear()
        answer = asking.rest()
    assert (answer.text, answer.done) == (site.expected, True)


def test_a_client_whose_connection_is_reset_frees_its_engine(site):
    outer = site.links["client-edge"]
    asking = stream(site.url, f"{SIM},tokens=100000,itl_ms=20")
    asking.head()
    asking.until(b"data:")
    assert site.gateway.metric("headrace_streams_open") == 1
    assert outer.cut() >= 1
    site.wait_quiet()
    asking.close()


def test_a_client_that_stalls_is_cut_and_frees_its_engine(site):
    outer = site.links["client-edge"]
    outer.set({"toxic": "stall", "after_bytes": 2_000, "direction": "down"})
    with stream(site.url, "tokens=3000,bytes=2000,itl_ms=0") as asking:
        asking.head()
        # The client's own end never moves: the edge has to judge by what it cannot send.
        site.wait_quiet()


def test_a_half_closed_client_is_gone(site):
    outer = site.links["client-edge"]
    with stream(site.url, f"{SIM},tokens=100000,itl_ms=20") as asking:
        asking.head()
        asking.until(b"data:")
        asking.half_close()
        site.wait_quiet()
    assert outer.state()["open"] <= 1


def test_many_streams_over_a_bad_network_all_end_well_or_honestly(site):
    for link in site.links.values():
        link.set({"toxic": "latency", "ms": 3, "jitter_ms": 3}, {"toxic": "slice", "bytes": 64})
    with contextlib.ExitStack() as stack:
        asked = [stack.enter_context(stream(site.url, SIM)) for _ in range(12)]
        for asking in asked[:4]:
            asking.head()
        site.links["edge-engine"].cut()
        answers = [asking.rest() for asking in asked[:4]] + [asking.read() for asking in asked[4:]]
    for answer in answers:
        if answer.errors:
            assert site.expected.startswith(answer.text)
            assert answer.done or answer.status >= 500
        else:
            assert (answer.text, answer.done) == (site.expected, True)
