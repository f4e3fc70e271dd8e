from __future__ import annotations

from control.health import BackendHealth, Finding
from control.settings import ControlSettings

SETTINGS = ControlSettings(down_after_failures=3, up_after_successes=2, down_after_busy_timeouts=4)
GOOD, BAD = Finding(ok=True), Finding(ok=False, detail="cannot connect")
SILENT = Finding(ok=False, detail="no answer in time", timed_out=True)


def after(*findings: Finding, inflight: int = 0, start: BackendHealth | None = None) -> BackendHealth:
    health = start or BackendHealth(SETTINGS, ())
    for finding in findings:
        health.observe(finding, inflight=inflight)
    return health


def test_the_first_probe_is_believed():
    assert after().health == "unknown"
    assert after(GOOD).health == "up"
    assert after(BAD).health == "down"


def test_after_that_it_takes_several_that_agree():
    assert after(GOOD, BAD, BAD).health == "up"
    assert after(GOOD, BAD, BAD, GOOD, BAD, BAD).health == "up"
    assert after(GOOD, BAD, BAD, BAD).health == "down"
    assert after(BAD, GOOD).health == "down"
    assert after(BAD, GOOD, BAD, GOOD).health == "down"
    assert after(BAD, GOOD, GOOD).health == "up"


def test_the_detail_is_always_the_last_one():
    assert after(GOOD, BAD).detail == "cannot connect"
    assert after(GOOD, BAD, GOOD).detail == ""


def test_silence_of_a_busy_backend_is_weak_evidence():
    up = after(GOOD)
    after(SILENT, SILENT, SILENT, inflight=2, start=up)
    assert up.health == "up"
    assert "in flight" in up.detail
    assert after(SILENT, inflight=2, start=up).health == "down"
    assert up.detail == "no answer in time"


def test_an_answer_between_makes_silence_start_again():
    up = after(GOOD)
    after(SILENT, SILENT, SILENT, GOOD, SILENT, SILENT, SILENT, inflight=2, start=up)
    assert up.health == "up"


def test_a_refused_connection_counts_however_busy():
    assert after(BAD, BAD, BAD, inflight=9, start=after(GOOD)).health == "down"


def test_silence_of_an_idle_backend_counts_as_any_failure():
    assert after(SILENT, SILENT, SILENT, start=after(GOOD)).health == "down"


def test_models_stay_known_while_a_backend_is_down():
    health = after(Finding(ok=True, models=("a",)), BAD, BAD, BAD)
    assert (health.health, health.models) == ("down", ("a",))
    assert after().models is None
    assert BackendHealth(SETTINGS, ("m",)).models == ("m",)
