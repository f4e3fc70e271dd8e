"""What a request's attempts leave behind for its event."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from edge.protocol.states import AttemptState
from edge.relay.trail import Trail


def leg(backend: str, state: AttemptState = AttemptState.DONE, **times: float) -> Any:
    ours = SimpleNamespace(
        backend=SimpleNamespace(name=backend),
        candidate=SimpleNamespace(model="m"),
        state=state,
        sent_at=0.0,
        first_at=0.0,
    )
    vars(ours).update(times)
    # A leg is found by itself, not by what is in it.
    return type("Leg", (SimpleNamespace,), {"__hash__": object.__hash__, "__eq__": object.__eq__})(**vars(ours))


def test_each_attempt_has_its_reason_its_times_and_its_end():
    trail = Trail()
    first, hedge, second = leg("a", AttemptState.FAILED), leg("b", AttemptState.CANCELLED), leg("c")
    headers = ((b"x-request-id", b"r"),)
    assert trail.opened(first, 1, headers, hedge=False) == headers
    trail.opened(hedge, 2, headers, hedge=True)
    began = trail.steps[0].opened_at
    trail.failed(first, "backend_error")
    trail.settled(first)
    trail.settled(hedge)
    trail.why = "refused"
    trail.opened(second, 3, headers, hedge=False)
    second.sent_at, second.first_at = began + 0.25, began + 0.5
    told = [step.fields(began) for step in trail.steps]
    assert [(one["backend"], one["why"], one.get("outcome"), one.get("code")) for one in told] == [
        ("a", "first", "failed", "backend_error"),
        ("b", "hedge", "cancelled", None),
        ("c", "refused", None, None),
    ]
    assert "ended_ms" not in told[2], "it runs"
    trail.settled(second)
    last = trail.steps[2].fields(began)
    assert (last["sent_ms"], last["first_ms"], last["outcome"]) == (250.0, 500.0, "done")
    assert trail.slot_s == sum(step.ended_at - step.opened_at for step in trail.steps)


def test_it_is_bounded_and_settles_what_it_does_not_know():
    trail = Trail()
    legs = [leg(f"b{number}") for number in range(40)]
    for number, one in enumerate(legs):
        trail.opened(one, number, (), hedge=False)
    for one in [*legs, leg("never opened")]:
        trail.settled(one)
        trail.failed(one, "late")
    assert len(trail.steps) == 16
    assert all(step.code == "" for step in trail.steps)
