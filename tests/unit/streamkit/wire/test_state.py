"""The staleness table of the design, row by row, and the schema's edges."""

from __future__ import annotations

import msgspec
import pytest

from streamkit.wire.state import (
    STATE_VERSION,
    EdgeReport,
    Freshness,
    Header,
    Pressure,
    Snapshot,
    SyncRequest,
    freshness,
    sheds,
)


@pytest.mark.parametrize(
    ("age_ms", "expected"),
    [(None, Freshness.ABSENT), (0, Freshness.FRESH), (1000, Freshness.FRESH), (1001, Freshness.STALE)],
)  # fmt: skip
def test_freshness(age_ms: int | None, expected: Freshness) -> None:
    assert freshness(age_ms) is expected


@pytest.mark.parametrize("pressure", ["ok", "busy", "shedding", "down"])
@pytest.mark.parametrize("alternative", [True, False])
def test_the_arbiters_row_of_the_staleness_table(pressure: Pressure, alternative: bool) -> None:
    used_as_it_is = pressure in ("shedding", "down")
    assert sheds(pressure, 0, fresh_alternative=alternative) is used_as_it_is
    assert sheds(pressure, 1000, fresh_alternative=alternative) is used_as_it_is
    assert sheds(pressure, 1001, fresh_alternative=alternative) is alternative
    assert sheds(pressure, None, fresh_alternative=alternative) is False


def test_every_signal_carries_version_instance_sequence_and_age() -> None:
    header = Header(instance="a.0.1", sequence=7)
    assert msgspec.to_builtins(header) == {"version": STATE_VERSION, "instance": "a.0.1", "sequence": 7, "age_ms": 0}
    with pytest.raises(msgspec.ValidationError, match="sequence"):
        msgspec.json.decode(b'{"instance":"a"}', type=Header)


def test_a_sync_request_is_checked() -> None:
    request = SyncRequest(edge=EdgeReport(header=Header(instance="a.0.1", sequence=0)), after=3, wait_ms=1000)
    wire = msgspec.json.encode(request)
    assert msgspec.json.decode(wire, type=SyncRequest) == request
    for bad in (b'"wait_ms":-1', b'"wait_ms":30001'):
        with pytest.raises(msgspec.ValidationError, match="wait_ms"):
            msgspec.json.decode(wire.replace(b'"wait_ms":1000', bad), type=SyncRequest)
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.json.decode(wire[:-1] + b',"more":1}', type=SyncRequest)


def test_a_snapshot_of_a_newer_version_is_still_read() -> None:
    snapshot = msgspec.json.decode(
        b'{"header":{"version":2,"instance":"c","sequence":1,"new":true},"more":[]}', type=Snapshot
    )
    assert snapshot.header.version == 2
    assert snapshot.backends == ()
