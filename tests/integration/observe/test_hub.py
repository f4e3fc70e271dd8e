"""Two sites and a hub: three real NATS servers, configured as `headrace observe config` says."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from streamkit.wire.telemetry import CENTRAL, EVENTS
from tests.support.exchange import ask
from tests.support.observe import Broker, Feed, free_port, numbers, observing, reached, served, stored
from tests.support.processes import Running, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
SITES = ("berlin", "paris")


@contextlib.contextmanager
def hub(folder: Path) -> Iterator[tuple[Broker, dict[str, Broker], dict[str, Feed]]]:
    """Run two sites with a feed each, and the hub, all observed."""
    leaf = free_port()
    with contextlib.ExitStack() as stack:
        centre = stack.enter_context(served(folder, "hub", central=True, leaf_host="127.0.0.1", leaf_port=leaf))
        brokers, feeds = {}, {}
        for site in SITES:
            broker = stack.enter_context(served(folder, site, hub_url=f"nats-leaf://127.0.0.1:{leaf}"))
            feed = stack.enter_context(Feed())
            stack.enter_context(
                observing(
                    folder, site, site=site, nats_url=broker.url, feeds=[f"edge={feed.url}"],
                    hub_url=f"nats-leaf://127.0.0.1:{leaf}",
                )
            )  # fmt: skip
            brokers[site], feeds[site] = broker, feed
        stack.enter_context(
            observing(folder, "hub", role="central", site="hub", nats_url=centre.url, sites=list(SITES))
        )
        yield centre, brokers, feeds


def test_the_hub_is_killed_and_comes_back_and_has_every_event_once(tmp_path: Path):
    with hub(tmp_path) as (centre, brokers, feeds):
        for feed in feeds.values():
            feed.say(50)
        until(lambda: len(numbers(stored(centre.url, CENTRAL))) >= 100, ms=30_000, what="the hub has gathered")
        centre.kill()
        for feed in feeds.values():
            feed.say(200)
        # The sites go on without it.
        for site, broker in brokers.items():
            until(lambda broker=broker: len(numbers(stored(broker.url, EVENTS))) == 250, what=f"{site} keeps its own")
        # One site's broker goes as well, and what is said meanwhile waits in memory.
        brokers["paris"].kill()
        feeds["paris"].say(100)
        brokers["paris"].start()
        centre.start()
        until(lambda: len(numbers(stored(centre.url, CENTRAL))) >= 600, ms=90_000, what="the hub has caught up")
        gathered = stored(centre.url, CENTRAL)
        assert numbers(gathered, "berlin") == list(range(250))
        assert numbers(gathered, "paris") == list(range(350))
        ids = [event.id for _, event in gathered]
        assert len(ids) == len(set(ids))


def test_an_observer_that_is_killed_reads_on_and_stores_nothing_twice(tmp_path: Path):
    def observed() -> contextlib.AbstractContextManager[Running]:
        return observing(tmp_path, "here", site="here", nats_url=broker.url, feeds=[f"edge={feed.url}"])

    with served(tmp_path, "here") as broker, Feed() as feed:
        with observed() as first:
            feed.say(300)
            until(lambda: len(numbers(stored(broker.url, EVENTS))) == 300, what="the first life stored them")
            first.process.kill()
            first.wait()
        feed.say(300)
        # Where it was is written down twice a second: a killed one reads some again, and the broker knows them.
        with observed() as second:
            until(lambda: len(numbers(stored(broker.url, EVENTS))) >= 600, what="the second life went on")
            ops = str(second.ready()["ops_url"])
            until(lambda: b"headrace_events_waiting 0.0" in ask(ops, "/metrics").body)
        assert numbers(stored(broker.url, EVENTS)) == list(range(600))


def test_an_observer_that_is_stopped_has_written_down_all_that_it_stored(tmp_path: Path):
    """The broker knows copies for ten minutes; who is started later must not tell anything again."""
    with served(tmp_path, "here") as broker, Feed() as feed:
        feeds = [f"edge={feed.url}"]
        with observing(tmp_path, "observe", site="here", nats_url=broker.url, feeds=feeds) as observer:
            feed.say(1, kind="feed.lost", count="many")  # a figure that is none ends nobody
            feed.say(3)
            until(lambda: len(numbers(stored(broker.url, EVENTS))) == 3, what="they are stored")
            assert observer.stop() == 0
        (last,) = [event.id for _, event in stored(broker.url, EVENTS) if event.fields.get("number") == 3]
        positions = json.loads((tmp_path / "observe-state/positions.json").read_text())
        assert positions["edge"] == last


def test_a_damaged_file_of_positions_is_told_of_and_nothing_is_stored_twice(tmp_path: Path):
    with served(tmp_path, "here") as broker, Feed() as feed:
        feeds = [f"edge={feed.url}"]
        for life in range(2):
            with observing(tmp_path, "observe", site="here", nats_url=broker.url, feeds=feeds) as observer:
                feed.say(3)
                until(lambda life=life: len(numbers(stored(broker.url, EVENTS))) == 3 * (life + 1), what="stored")
                assert ("positions.unread" in observer.output()) == bool(life)
            (tmp_path / "observe-state/positions.json").write_text('{"edge": ')
        assert numbers(stored(broker.url, EVENTS)) == list(range(6))


def test_a_spool_that_is_full_drops_the_oldest_and_every_one_is_counted(tmp_path: Path):
    with served(tmp_path, "here") as broker, Feed() as feed:
        centre = observing(
            tmp_path, "here", site="here", nats_url=broker.url, feeds=[f"edge={feed.url}"], spool_bytes=65_536
        )
        with centre as ours:
            ops = str(ours.ready()["ops_url"])

            def figure(name: str) -> int:
                page = ask(ops, "/metrics").body.decode()
                return int(next(float(row.split()[-1]) for row in page.splitlines() if row.startswith(name)))

            feed.say(10)
            until(lambda: figure("headrace_events_stored_total") == 10, what="it flows")
            broker.kill()
            feed.say(1_000)
            until(
                lambda: figure('headrace_events_taken_total{feed="edge"}') == 1_010,
                what="all are taken, nobody waits",
            )
            assert 0 < figure("headrace_events_spooled_bytes") <= 65_536
            dropped = figure('headrace_events_lost_total{where="spool"}')
            assert dropped > 500
            broker.start()
            until(lambda: figure("headrace_events_waiting") == 0, what="what is left is stored")
            assert figure("headrace_events_spooled_bytes") == 0
        kept = numbers(stored(broker.url, EVENTS))
        assert kept == [*range(10), *range(10 + dropped, 1_010)], "the newest, and the rest was counted"


def test_sites_show_certificates_and_strangers_are_not_taken_in(tmp_path: Path):
    authority, stranger = trustme.CA(), trustme.CA()
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))

    def tls(name: str, issuer: trustme.CA) -> tuple[str, str, str]:
        cert = issuer.issue_cert("127.0.0.1", "localhost")
        files = (str(tmp_path / f"{name}.pem"), str(tmp_path / f"{name}.key"))
        cert.cert_chain_pems[0].write_to_path(files[0])
        cert.private_key_pem.write_to_path(files[1])
        return (*files, str(ca))

    leaf = free_port()
    hub_url = f"tls://127.0.0.1:{leaf}"
    centre = {"central": True, "leaf_host": "127.0.0.1", "leaf_port": leaf, "leaf_tls": tls("hub", authority)}
    with (
        served(tmp_path, "hub", **centre) as middle,
        served(tmp_path, "berlin", hub_url=hub_url, leaf_tls=tls("berlin", authority)),
        served(tmp_path, "mallory", hub_url=hub_url, leaf_tls=tls("mallory", stranger)),
    ):
        until(lambda: reached(middle.url, "berlin"), what="berlin is taken in")
        hub_process = middle.process
        assert hub_process is not None
        until(lambda: "TLS leafnode handshake error" in hub_process.output(), what="mallory was refused")
        assert not reached(middle.url, "mallory")
