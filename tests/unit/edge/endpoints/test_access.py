from __future__ import annotations

from typing import Any

import pytest

from edge.endpoints.access import Access, Caller
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.keys import KeyRecord, KeySnapshot, Tenant, digest
from streamkit.wire.state import CACHE_MS

KEY = "hr-" + "5a" * 32
RECORD = KeyRecord(id="k1", sha256=digest(KEY), tenant="acme")
KEYS = KeySnapshot(version=1, required=True, keys=(RECORD,), tenants=(Tenant(name="acme", max_priority=3),))


def check(access: Access, **headers: str) -> Caller:
    rows = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {"type": "http", "headers": rows}
    return access.check(scope)


def code(access: Access, **headers: str) -> Code:
    with pytest.raises(HeadraceError) as caught:
        check(access, **headers)
    assert KEY not in caught.value.message
    return caught.value.code


def using(snapshot: KeySnapshot, age_ms: float | None = 0.0) -> Access:
    access = Access(lambda: age_ms)
    access.update(snapshot)
    return access


def test_before_the_first_snapshot_nobody_is_let_in() -> None:
    assert code(Access(lambda: None)) is Code.NO_ROUTE
    assert code(Access(lambda: None), authorization=f"Bearer {KEY}") is Code.NO_ROUTE


def test_without_keys_everybody_is_the_default_tenant() -> None:
    caller = check(using(KeySnapshot()))
    assert (caller.tenant.name, caller.key_id, caller.priority) == ("default", "", 5)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_known_key_is_its_tenant(scheme: str) -> None:
    caller = check(using(KEYS), authorization=f"{scheme} {KEY}")
    assert (caller.tenant.name, caller.key_id) == ("acme", "k1")


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", f"Basic {KEY}", KEY, f"Bearer {KEY[:-1]}", f"Bearer {KEY}x", "Bearer \xff"],
)
def test_anything_else_is_refused(authorization: str) -> None:
    assert code(using(KEYS), authorization=authorization) is Code.UNAUTHORIZED
    assert code(using(KEYS)) is Code.UNAUTHORIZED


def test_a_key_that_a_newer_snapshot_lacks_is_refused_from_now_on() -> None:
    access = using(KEYS)
    check(access, authorization=f"Bearer {KEY}")
    access.update(KeySnapshot(version=2, required=True))
    assert code(access, authorization=f"Bearer {KEY}") is Code.UNAUTHORIZED
    access.update(KEYS)
    check(access, authorization=f"Bearer {KEY}")


def test_a_key_of_a_tenant_without_limits_of_its_own() -> None:
    caller = check(using(KeySnapshot(required=True, keys=(RECORD,))), authorization=f"Bearer {KEY}")
    assert caller.tenant == Tenant(name="acme")


@pytest.mark.parametrize(
    ("asked", "bound", "given"),
    [(None, 1, 5), (None, 7, 7), ("1", 1, 1), ("1", 3, 3), ("9", 3, 9), ("5", 3, 5)],
)
def test_priorities_are_clamped_by_the_tenant(asked: str | None, bound: int, given: int) -> None:
    access = using(KeySnapshot(required=True, keys=(RECORD,), tenants=(Tenant(name="acme", max_priority=bound),)))
    headers = {"x_headrace_priority": asked} if asked else {}
    assert check(access, authorization=f"Bearer {KEY}", **headers).priority == given


@pytest.mark.parametrize("asked", ["0", "10", "-1", "high", "1.0", " 1"])
def test_a_priority_that_is_none_is_refused(asked: str) -> None:
    assert code(using(KeySnapshot()), x_headrace_priority=asked) is Code.INVALID_REQUEST


def test_keys_are_trusted_for_ten_minutes_without_control_and_no_longer() -> None:
    bearer = f"Bearer {KEY}"
    assert check(using(KEYS, age_ms=CACHE_MS), authorization=bearer).key_id == "k1"
    assert code(using(KEYS, age_ms=CACHE_MS + 1), authorization=bearer) is Code.NO_ROUTE
    assert check(using(KeySnapshot(), age_ms=CACHE_MS + 1)).tenant.name == "default"
