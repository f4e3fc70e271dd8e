"""A viewer's place: what is kept of what was told, for how long, and who is told it again."""

from __future__ import annotations

import json

import pytest

from edge.avatars import place as module
from edge.avatars.place import Place, Places, passed
from edge.avatars.viewer import Viewer
from streamkit.wire.pb import compositor_pb2 as pb

OVER = pb.Mark(kind=pb.Mark.FINISHED, speech=1, epoch=1, position_ms=400, interrupted=True)
BEGUN = pb.Mark(kind=pb.Mark.STARTED, speech=1, epoch=1)


class Session:
    opened = pb.Opened(fps=25)
    wanted_bps = 500_000

    def __init__(self) -> None:
        self.places: list[Place] = []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return now


def sat(places: Places, session: Session, name: str, place: Place | None = None, *, has: int = 0) -> Viewer:
    viewer = Viewer(name, session, "t", pb.H264, audio=True)
    viewer.heard_by = []
    viewer.on_tell = viewer.heard_by.append
    viewer.has = has
    places.sit(viewer, place)
    return viewer


def numbers(viewer: Viewer) -> list[int]:
    return [json.loads(message)["event_id"] for message in viewer.heard_by]


def test_who_takes_a_place_is_told_what_it_has_not_and_then_all_that_follows(clock: list[float]):
    places, session = Places(1.0), Session()
    first = sat(places, session, "hv-1")
    first.place.tell({"type": "speech"})
    assert first.heard_by == [], "no message reaches it yet"
    first.welcome()
    for _ in range(3):
        first.place.tell({"type": "speech"})
    assert numbers(first) == [1, 2, 3, 4]
    second = sat(places, session, "hv-2", places.of("hv-1"), has=2)
    first.place.tell({"type": "speech"})
    second.welcome()
    second.welcome()
    second.place.tell({"type": "speech"})
    assert numbers(second) == [3, 4, 5, 6]
    assert numbers(first) == [1, 2, 3, 4]


def test_one_that_does_not_say_what_it_has_is_told_what_may_be_lost(clock: list[float]):
    places, session = Places(1.0), Session()
    first = sat(places, session, "hv-1")
    for at in (10.0, 18.0, 19.5, 21.0):
        clock[0] = at
        first.place.tell({"type": "speech"})
    first.heard_at = 20.0
    assert first.place.arrived() == 2, "what was told within the second before it was heard last was on its way"
    first.place.leave(first)
    first.heard_at = 99.0
    assert places.of("hv-1").arrived() == 2


def test_what_is_kept_is_bounded(clock: list[float], monkeypatch: pytest.MonkeyPatch):
    places, session = Places(1.0), Session()
    place = sat(places, session, "hv-1").place
    for _ in range(200):
        place.tell({"type": "speech"})
    assert len(place.since(0)) == 128
    monkeypatch.setattr(module, "_BYTES", 1_000)
    place.tell({"type": "speech", "text": "x" * 940})
    assert [json.loads(message)["event_id"] for message in place.since(0)] == [201]


def test_an_offer_may_be_made_again_and_old_names_are_given_up(clock: list[float]):
    places, session = Places(1.0), Session()
    place = sat(places, session, "hv-0").place
    for number in range(1, 6):
        sat(places, session, f"hv-{number}", place)
    assert [places.of(f"hv-{number}") is place for number in range(6)] == [False, False, True, True, True, True]
    assert len(session.places) == 1


def test_a_place_to_which_nobody_came_back_is_given_up(clock: list[float]):
    places, session = Places(1.0), Session()
    first, second = sat(places, session, "hv-1"), sat(places, session, "hv-2")
    first.place.leave(first)
    clock[0] += 0.5
    places.tidy()
    assert len(places) == 2
    clock[0] += 0.6
    places.tidy()
    assert places.of("hv-1") is None
    assert session.places == [second.place]
    # One that has somebody is nobody else's to give up.
    stranger = sat(places, session, "hv-3", second.place)
    second.place.leave(second)
    assert stranger.place.viewer is stranger


def test_what_passes_by_is_told_but_for_speech_that_never_began(clock: list[float]):
    places, session = Places(1.0), Session()
    there, away = sat(places, session, "hv-1"), sat(places, session, "hv-2")
    there.connected = True
    away.place.leave(away)
    passed(session.places, pb.Unit(marks=[BEGUN], speaking=True, epoch=1), 1)
    passed(session.places, pb.Unit(marks=[BEGUN, OVER], speaking=True, epoch=1), 2)
    assert [json.loads(message)["type"] for message in away.place.since(0)] == [
        "playback.started",
        "playback.finished",
    ]
    assert there.place.since(0) == [], "it gets them with their units"


def test_what_never_went_out_to_a_place_does_not_count_as_spoken(clock: list[float]):
    places, session = Places(1.0), Session()
    first = sat(places, session, "hv-1")
    for _ in range(3):
        first.place.unheard()
    second = sat(places, session, "hv-2", first.place)
    second.place.marks(pb.Unit(marks=[OVER]), dropped=False)
    second.place.marks(pb.Unit(marks=[OVER]), dropped=False)
    assert [json.loads(message)["position_ms"] for message in second.place.since(0)] == [280, 400]
