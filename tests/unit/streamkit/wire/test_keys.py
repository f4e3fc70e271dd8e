from __future__ import annotations

import re

import msgspec

from streamkit.wire.keys import KeyRecord, KeySnapshot, Tenant, digest, new_key


def test_a_key_is_256_random_bits_behind_its_prefix() -> None:
    first, second = new_key(), new_key()
    assert first != second
    assert re.fullmatch(r"hr-[0-9a-f]{64}", first)


def test_only_the_sha256_is_kept() -> None:
    assert digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    key = new_key()
    snapshot = KeySnapshot(keys=(KeyRecord(id="k1", sha256=digest(key), tenant="t"),), tenants=(Tenant(name="t"),))
    wire = msgspec.json.encode(snapshot)
    assert key.removeprefix("hr-").encode() not in wire
    assert msgspec.json.decode(wire, type=KeySnapshot) == snapshot


def test_without_a_snapshot_nobody_needs_a_key() -> None:
    assert not KeySnapshot().required
