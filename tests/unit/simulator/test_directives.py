from __future__ import annotations

import re
from pathlib import Path

import pytest

from simulator.directives import KEYS, Directives, DirectivesError, parse
from simulator.faults import NAMED, parse_fault


def read(header: str, **more: object) -> Directives:
    return parse(header, name="gpu-a", **more)


def test_pairs_become_values_of_their_kind() -> None:
    asked = read("seed=-3, itl_ms=2.5 ,stamp=1,garbage=utf8,no_done=true,usage=off,bytes=64")
    assert asked == Directives(
        seed=-3, itl_ms=2.5, stamp=True, garbage="utf8", no_done=True, usage="off", bytes=64
    )  # fmt: skip


def test_later_clauses_override_earlier_ones_key_by_key() -> None:
    assert read("tokens=5,itl_ms=1; tokens=7") == Directives(tokens=7, itl_ms=1.0)


@pytest.mark.parametrize(
    ("header", "attempt", "tokens"),
    [
        ("@gpu-a tokens=5", 1, 5),
        ("@gpu-b tokens=5", 1, None),
        ("#1 tokens=5; #2 tokens=6", 1, 5),
        ("#1 tokens=5; #2 tokens=6", 2, 6),
        ("tokens=4; #3 tokens=5", 2, 4),
        ("@gpu-a tokens=5; @gpu-b tokens=6", 1, 5),
        ("", 1, None),
        (" ; tokens=5 ;", 1, 5),
    ],
)
def test_a_clause_applies_where_its_selector_matches(header: str, attempt: int, tokens: int | None) -> None:
    assert read(header, attempt=attempt).tokens == tokens


def test_a_base_holds_where_the_header_is_silent() -> None:
    base = Directives(itl_ms=250.0, ttft_ms=2000.0)
    assert read("itl_ms=1", base=base) == Directives(itl_ms=1.0, ttft_ms=2000.0)


@pytest.mark.parametrize(
    ("header", "clause", "position", "says"),
    [
        ("tokens", 1, 0, "expected key=value, found 'tokens'"),
        ("tokens=5; speed=2", 2, 10, "unknown key 'speed'"),
        ("tokens=5,  speed=2", 1, 11, "unknown key 'speed'"),
        ("tokens=many", 1, 0, "tokens=many"),
        ("die_after=-1", 1, 0, ">= 0"),
        ("@gpu-a", 1, 6, "expected key=value after the selector"),
        ("@ tokens=1", 1, 0, "a selector is"),
        ("itl_ms=1; #x tokens=1", 2, 10, "no attempt number"),
        ("#0 tokens=1", 1, 0, "no attempt number"),
        ("@gpu-b tokens=5; @gpu-b speed=1", 2, 24, "unknown key"),
        ("status=200", 1, 0, ">= 400"),
        ("tokens=5,", 1, 9, "expected key=value, found ''"),
    ],
)
def test_a_malformed_header_names_clause_and_position(header: str, clause: int, position: int, says: str) -> None:
    with pytest.raises(DirectivesError, match=re.escape(says)) as caught:
        read(header)
    assert (caught.value.clause, caught.value.position) == (clause, position)
    assert str(caught.value).startswith(f"X-Sim clause {clause}, position {position}: ")


def test_the_reference_page_tells_every_key_and_every_fault() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "x-sim.md").read_text()
    rows = set(re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE))
    assert rows == set(KEYS) | set(NAMED)


def test_a_fault_is_a_name_a_latency_or_clauses() -> None:
    assert parse_fault(None).name is None
    assert parse_fault("none").name is None
    assert parse_fault("stall").directives == Directives(stall_after=0)
    assert parse_fault("latency+500ms").directives == Directives(latency_ms=500.0)
    assert parse_fault("@gpu-a itl_ms=9; @gpu-b itl_ms=1", name="gpu-a").directives == Directives(itl_ms=9.0)
    assert parse_fault("refuse").refuse
    with pytest.raises(ValueError, match=r"unknown fault 'tired'; there are busy, crash, .*latency\+<N>ms"):
        parse_fault("tired")
