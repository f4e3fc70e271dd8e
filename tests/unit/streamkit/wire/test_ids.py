from __future__ import annotations

import socket

import pytest

from streamkit.wire.ids import Instance, StreamIds, node_name, request_id, valid_request_id

KEY = bytes(range(32))


@pytest.mark.parametrize(
    "text",
    ["", "a", "a.1", "a.1.g", "a.x.1", "a.10000.1", "-a.1.1", "a-.1.1", "A.1.1", "a.1.1\n", " a.1.1", "a.1.", ".1.1",
     "a.٣.1", "a.1." + "f" * 17, "a" * 33 + ".1.1", "a.1.1.1"],
)  # fmt: skip
def test_what_is_no_instance(text: str) -> None:
    with pytest.raises(ValueError, match="not an instance"):
        Instance.parse(text)


def test_a_new_life_sorts_behind_the_last() -> None:
    first, second = Instance.new("a", 3), Instance.new("a", 3)
    assert (first.node, first.worker) == ("a", 3)
    assert int(first.incarnation, 16) <= int(second.incarnation, 16)
    assert Instance.parse(str(first)) == first


@pytest.mark.parametrize("node", ["", "Ab", "a_b", "-", "a" * 33, "ä"])
def test_a_node_has_a_plain_name(node: str) -> None:
    with pytest.raises(ValueError, match="node must be"):
        Instance.new(node)


def test_ids_do_not_repeat_and_name_their_owner() -> None:
    ids = StreamIds(Instance("edge-1", 2, "18f"), KEY)
    made = {ids.new() for _ in range(100)}
    assert len(made) == 100
    assert {ids.owner(stream_id) for stream_id in made} == {Instance("edge-1", 2, "18f")}
    assert all(stream_id.startswith("hs-edge-1.2.18f-") for stream_id in made)


def test_an_id_cannot_be_moved_to_another_owner() -> None:
    ids = StreamIds(Instance("edge-1", 2, "18f"), KEY)
    stream_id = ids.new()
    assert ids.owner(stream_id.replace("edge-1.2", "edge-1.3")) is None
    assert ids.owner(stream_id.replace("edge-1.2", "edge-1.02")) is None


@pytest.mark.parametrize("size", [0, 31, 33])
def test_the_key_has_32_bytes(size: int) -> None:
    with pytest.raises(ValueError, match=f"has {size} bytes"):
        StreamIds(Instance("a", 0, "0"), bytes(size))


@pytest.mark.parametrize("host", ["GPU-Box_7.example.org", "---", "", "x" * 80, "ünïcode", "a.b"])
def test_any_host_name_makes_a_node(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert Instance.new(node_name()).node == node_name()


def test_request_ids() -> None:
    made = request_id()
    assert len(made) == 32
    assert int(made, 16) >= 0
    assert valid_request_id(made)
    assert valid_request_id("!" * 128)
    for bad in ("", "a" * 129, "a b", "a\n", "ä", "\x7f"):
        assert not valid_request_id(bad)
