from __future__ import annotations

import string

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from streamkit.wire.ids import Instance, StreamIds

nodes = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True)
instances = st.builds(Instance, nodes, st.integers(0, 9999), st.text("0123456789abcdef", min_size=1, max_size=16))
secret_keys = st.binary(min_size=32, max_size=32)
characters = string.ascii_letters + string.digits + "-.\n \u0663"


@given(instances)
def test_an_instance_reads_back_as_itself(instance: Instance) -> None:
    assert Instance.parse(str(instance)) == instance


@given(instances, secret_keys)
def test_any_edge_with_the_key_sees_the_owner(instance: Instance, key: bytes) -> None:
    stream_id = StreamIds(instance, key).new()
    assert StreamIds(Instance("other", 0, "0"), key).owner(stream_id) == instance


@given(instances, secret_keys, secret_keys)
def test_another_key_makes_no_valid_id(instance: Instance, key: bytes, other: bytes) -> None:
    assume(key != other)
    assert StreamIds(instance, key).owner(StreamIds(instance, other).new()) is None


@settings(max_examples=300)
@given(instances, st.data())
def test_no_changed_id_is_accepted(instance: Instance, data: st.DataObject) -> None:
    ids = StreamIds(instance, bytes(32))
    stream_id = ids.new()
    at = data.draw(st.integers(0, len(stream_id)))
    kind = data.draw(st.sampled_from(["replace", "insert", "delete", "upper"]))
    match kind:
        case "replace":
            changed = stream_id[:at] + data.draw(st.sampled_from(characters)) + stream_id[at + 1 :]
        case "insert":
            changed = stream_id[:at] + data.draw(st.sampled_from(characters)) + stream_id[at:]
        case "delete":
            changed = stream_id[:at] + stream_id[at + 1 :]
        case _:
            changed = stream_id.upper()
    assume(changed != stream_id)
    assert ids.owner(changed) is None


@given(st.text())
def test_no_text_makes_owner_raise(text: str) -> None:
    assert StreamIds(Instance("a", 0, "0"), bytes(32)).owner(text) is None
