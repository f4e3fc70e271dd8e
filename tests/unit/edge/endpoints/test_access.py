from __future__ import annotations

from typing import Any

import msgspec
import pytest

from edge.endpoints.access import SKEW_S, Access, Caller
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.keys import CLIENT_TOKENS, KeyRecord, KeySnapshot, Tenant, digest
from streamkit.wire.state import CACHE_MS
from streamkit.wire.tokens import Claims, signed

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


# Client tokens

SECRET = bytes(range(32))
PAGE = "https://app.example"
NOW = 1_800_000_000
WITH_TOKENS = msgspec.structs.replace(KEYS, secrets={CLIENT_TOKENS: SECRET.hex()})


def token(secret: bytes = SECRET, /, **claims: Any) -> str:
    return signed(Claims(**{"key": "k1", "expires_at": NOW + 600, **claims}), secret)


def trusting(snapshot: KeySnapshot = WITH_TOKENS, *, now: float = NOW) -> Access:
    access = Access(lambda: 0.0, now=lambda: now)
    access.update(snapshot)
    return access


def refusal(access: Access, shown: str, *, origin: str = "") -> HeadraceError:
    with pytest.raises(HeadraceError) as caught:
        access.admit(shown.encode("latin-1"), origin=origin.encode())
    assert shown not in caught.value.message
    return caught.value


def test_a_token_is_its_parent_s_tenant_within_its_scope() -> None:
    caller = trusting().admit(token(models=("m",), avatars=("anna",), user="u7").encode(), origin=b"")
    assert (caller.tenant.name, caller.key_id) == ("acme", "k1/u7")
    caller.check_model("m")
    caller.check_avatar("anna")
    for refuse, name, scope in (
        (caller.check_model, "n", "models: m"),
        (caller.check_avatar, "bob", "avatars: anna"),
    ):
        with pytest.raises(HeadraceError, match=f"scoped to {scope}; `{name}` is not among them") as caught:
            refuse(name)
        assert caught.value.code is Code.FORBIDDEN


def test_what_is_not_named_is_not_scoped_and_an_empty_list_is_nothing() -> None:
    free = trusting().admit(token().encode(), origin=b"")
    free.check_model("anything")
    free.check_avatar("anybody")
    none = trusting().admit(token(models=(), avatars=()).encode(), origin=b"")
    assert not none.may_use("m")
    with pytest.raises(HeadraceError, match="scoped to avatars: none"):
        none.check_avatar("anna")
    key = trusting().admit(KEY.encode(), origin=b"")
    key.check_model("anything")
    key.check_avatar("anybody")


@pytest.mark.parametrize(
    ("bound", "claimed", "asked", "given"),
    [(1, 4, "", 5), (1, 4, "1", 4), (1, 4, "9", 9), (3, 1, "1", 3), (3, 7, "5", 7), (1, 1, "1", 1)],
)
def test_a_token_s_priority_is_bound_by_both(bound: int, claimed: int, asked: str, given: int) -> None:
    tenants = (Tenant(name="acme", max_priority=bound),)
    access = trusting(msgspec.structs.replace(WITH_TOKENS, tenants=tenants))
    caller = access.admit(token(max_priority=claimed).encode(), origin=b"", priority=asked.encode())
    assert caller.priority == given
    assert caller.tenant.max_priority == max(bound, claimed)


@pytest.mark.parametrize(
    ("late_s", "taken"), [(-600, True), (0, True), (SKEW_S, True), (SKEW_S + 1, False), (86_400, False)]
)
def test_a_token_ends_with_its_time_and_a_tolerance(late_s: int, taken: bool) -> None:
    access = trusting(now=NOW + 600 + late_s)
    if taken:
        assert access.admit(token().encode(), origin=b"").key_id == "k1"
    else:
        error = refusal(access, token())
        assert error.code is Code.UNAUTHORIZED
        assert "expired" in error.message


def test_a_token_dies_with_its_parent_and_with_the_secret() -> None:
    access = trusting()
    access.admit(token().encode(), origin=b"")
    access.update(msgspec.structs.replace(WITH_TOKENS, version=2, keys=()))
    assert "was revoked" in refusal(access, token()).message
    access.update(msgspec.structs.replace(WITH_TOKENS, version=3, secrets={CLIENT_TOKENS: bytes(32).hex()}))
    assert refusal(access, token()).code is Code.UNAUTHORIZED
    access.update(msgspec.structs.replace(WITH_TOKENS, version=4, secrets={}))
    assert refusal(access, token()).code is Code.UNAUTHORIZED
    access.update(WITH_TOKENS)
    access.admit(token().encode(), origin=b"")


@pytest.mark.parametrize("shown", [token(bytes(32)), "hrt-", "hrt-a.b", token() + "x", token()[:-1], "hrt-\xff.\xff"])
def test_a_forged_token_is_refused(shown: str) -> None:
    assert refusal(trusting(), shown).code is Code.UNAUTHORIZED


@pytest.mark.parametrize("origin", ["", "null", "https://evil.example", f"{PAGE}.evil.example", "http://app.example"])
def test_a_token_of_one_page_is_refused_to_all_others(origin: str) -> None:
    assert trusting().admit(token(origin=PAGE).encode(), origin=PAGE.encode()).key_id == "k1"
    error = refusal(trusting(), token(origin=PAGE), origin=origin)
    assert error.code is Code.FORBIDDEN
    assert f"scoped to the origin {PAGE}" in error.message


def test_a_get_to_the_page_s_own_origin_says_so_in_another_way() -> None:
    shown = {"authorization": f"Bearer {token(origin='http://edge:7400')}", "host": "edge:7400"}
    assert check(trusting(), sec_fetch_site="same-origin", **shown).key_id == "k1"
    for site in ("cross-site", "same-site", "none"):
        assert code(trusting(), sec_fetch_site=site, **shown) is Code.FORBIDDEN
    assert code(trusting(), **shown) is Code.FORBIDDEN


def test_where_others_reach_it_keys_are_demanded_though_there_are_none() -> None:
    access = Access(lambda: 0.0, demanded=True)
    access.update(KeySnapshot())
    assert code(access) is Code.UNAUTHORIZED
    assert code(access, authorization=f"Bearer {KEY}") is Code.UNAUTHORIZED
