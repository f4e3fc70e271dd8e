"""What a node leaves alone, for as long as control says so, or would have."""

from __future__ import annotations

from edge.routing.holds import Holds
from streamkit.wire.backend import Capabilities
from streamkit.wire.route import Candidate, RouteAnswer
from streamkit.wire.state import Header, Hold, Snapshot


def one(name: str) -> Candidate:
    return Candidate(
        backend=name, engine="vllm", url="http://x", model="m", max_inflight=1, capabilities=Capabilities()
    )


ANSWER = RouteAnswer(decision_id="d", ttl_ms=1, candidates=(one("a"), one("b")))


def snapshot(*holds: Hold) -> Snapshot:
    return Snapshot(header=Header(instance="c", sequence=1), holds=holds)


def spared(holds: Holds) -> list[str]:
    return [candidate.backend for candidate in holds.spared(ANSWER).candidates]


def test_a_node_leaves_held_backends_alone_unless_nothing_else_is_left():
    holds = Holds("north")
    assert holds.spared(ANSWER) is ANSWER
    for hold, left in (
        (Hold(backend="a", node="north"), ["b"]),
        (Hold(backend="a", node="south"), ["a", "b"]),
        (Hold(backend="a"), ["b"]),
    ):
        holds.update(snapshot(hold))
        assert spared(holds) == left
    holds.update(snapshot(Hold(backend="a", node="north"), Hold(backend="b")))
    assert holds.spared(ANSWER) is ANSWER


def test_a_hold_ends_without_control_when_that_is_silent_for_as_long_as_it_was_to_last():
    silent_ms = 0.0
    holds = Holds("north", silent_ms=lambda: silent_ms)
    holds.update(snapshot(Hold(backend="a", ttl_ms=30_000), Hold(backend="a", node="north", ttl_ms=10_000)))
    for silent_ms, left in (  # noqa: B007 - what the lambda returns
        (0.0, ["b"]), (29_999.0, ["b"]), (30_000.0, ["a", "b"]), (0.0, ["b"]),
    ):  # fmt: skip
        assert spared(holds) == left
    assert holds.held == {"a"}


def test_it_is_told_what_begins_and_what_ends():
    told: list[tuple[str, str, bool]] = []
    holds = Holds("north", on_change=lambda hold, begun: told.append((hold.backend, hold.node, begun)))
    holds.update(snapshot(Hold(backend="a", node="north"), Hold(backend="b", node="south")))
    holds.update(snapshot(Hold(backend="b")))
    assert told == [("a", "north", True), ("b", "", True), ("a", "north", False)]
