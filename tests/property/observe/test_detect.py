"""When a path is sick: never by one outlier, never at once there and back, and always when it lasts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from observe.detect import PathHealth, Probe, Rule

RULE = Rule(
    ttft_floor_s=0.5, ttft_times=4.0, gap_floor_s=0.25, gap_times=6.0, baseline_probes=5, baseline_kept=20,
    sick_after=3, well_after=2,
)  # fmt: skip
GOOD = Probe(result="ok", ttft_s=0.1, gap_s=0.02)
LATE = Probe(result="ok", ttft_s=2.0, gap_s=0.02)
GAPPY = Probe(result="ok", ttft_s=0.1, gap_s=1.5)
FAILED = Probe(result="failed", detail="broke off")
BAD = st.sampled_from([LATE, GAPPY, FAILED])
NEUTRAL = st.sampled_from([Probe(result="busy"), Probe(result="unasked")])
ANY = st.one_of(st.just(GOOD), BAD, NEUTRAL)


def warm() -> PathHealth:
    path = PathHealth(RULE)
    for _ in range(RULE.baseline_probes):
        path.see(GOOD)
    return path


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, RULE.sick_after - 1), BAD)))
def test_fewer_than_so_many_bad_ones_in_a_row_do_nothing(runs):
    path = warm()
    for good, bad, probe in runs:
        for one in [probe] * bad + [GOOD] * good:
            assert not path.see(one)
    assert not path.sick


@given(st.lists(ANY, max_size=200))
def test_changes_are_bounded_however_it_flaps(probes):
    path = warm()
    changes = sum(path.see(probe) for probe in probes)
    counted = [probe for probe in probes if probe.result in ("ok", "failed")]
    # Each change takes its own run of probes that agree.
    assert changes * min(RULE.sick_after, RULE.well_after) <= len(counted)


@given(st.lists(ANY, max_size=100), BAD)
def test_what_lasts_is_found_and_its_end_too(before, bad):
    path = warm()
    for probe in before:
        path.see(probe)
    # A late run before may have become the new usual; a failure never does.
    for _ in range(RULE.sick_after):
        path.see(FAILED)
    assert path.sick
    assert path.why
    for _ in range(RULE.well_after):
        path.see(GOOD)
    assert not path.sick


@given(st.lists(NEUTRAL, min_size=1, max_size=50), st.booleans())
def test_fullness_and_our_own_faults_say_nothing(neutral, sick):
    path = warm()
    for _ in range(RULE.sick_after * sick):
        path.see(FAILED)
    for probe in neutral:
        assert not path.see(probe)
    assert path.sick == sick


@given(st.floats(0.001, 0.49), st.floats(0.001, 0.24))
def test_below_the_floor_nothing_is_a_spike_however_many_times_the_usual_it_is(ttft_s, gap_s):
    path = PathHealth(RULE)
    for _ in range(RULE.baseline_probes):
        path.see(Probe(result="ok", ttft_s=0.0001, gap_s=0.0001))
    for _ in range(10):
        assert not path.see(Probe(result="ok", ttft_s=ttft_s, gap_s=gap_s))
    assert not path.sick


@given(st.floats(0.6, 5.0))
def test_a_slow_path_is_not_sick_for_being_as_slow_as_ever(usual_s):
    path = PathHealth(RULE)
    for _ in range(30):
        path.see(Probe(result="ok", ttft_s=usual_s, gap_s=None))
    for _ in range(10):
        path.see(Probe(result="ok", ttft_s=usual_s * (RULE.ttft_times - 0.1), gap_s=None))
    assert not path.sick


def test_spikes_do_not_become_the_usual_until_they_have_lasted_for_as_long_as_anything_is_remembered():
    path = warm()
    for number in range(RULE.baseline_kept - 1):
        path.see(LATE)
        assert path.sick == (number + 1 >= RULE.sick_after)
        assert path.usual_ttft_s == 0.1
    for _ in range(RULE.well_after + 1):
        path.see(LATE)
    assert not path.sick
    assert path.usual_ttft_s == 2.0


def test_before_there_is_a_usual_only_failures_count():
    path = PathHealth(RULE)
    for _ in range(RULE.baseline_probes - 1):
        path.see(LATE)
    assert not path.sick
    for _ in range(RULE.sick_after):
        path.see(FAILED)
    assert path.sick
