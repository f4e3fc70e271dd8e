from __future__ import annotations

import typing

import msgspec
import pytest

from streamkit.wire.backend import CAPABILITIES, Backend, Cancels, Capabilities, Engine


def backend(**fields: object) -> Backend:
    return msgspec.convert({"name": "a", "engine": "vllm", "url": "http://127.0.0.1:8000"} | fields, type=Backend)


def test_every_engine_has_capabilities() -> None:
    assert set(CAPABILITIES) == set(typing.get_args(Engine))


@pytest.mark.parametrize("name", ["", "A", "-a", "a b", "a/b", "a" * 65])
def test_names_are_plain(name: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="name"):
        backend(name=name)


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://a", "http://", "http:///v1", "http://a b"])
def test_addresses_are_http(url: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="url"):
        backend(url=url)


@pytest.mark.parametrize("url", ["http://a", "https://a:1/prefix", "http://[::1]:8000"])
def test_addresses_that_are_taken(url: str) -> None:
    assert backend(url=url).url == url


@pytest.mark.parametrize("bound", [0, -1, 100_001])
def test_the_bound_is_sane(bound: int) -> None:
    with pytest.raises(msgspec.ValidationError, match="max_inflight"):
        backend(max_inflight=bound)


def test_a_misspelt_setting_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="max_in_flight"):
        backend(max_in_flight=4)


def test_own_capabilities_take_the_place_of_the_engines() -> None:
    assert backend(engine="openai").effective_capabilities() == CAPABILITIES["openai"]
    own = {"sends_done": False, "cancels_on_close": {"stream": False}}
    assert backend(capabilities=own).effective_capabilities() == Capabilities(
        sends_done=False, cancels_on_close=Cancels(stream=False)
    )


def test_a_simulator_is_marked_whatever_its_engine() -> None:
    for engine in typing.get_args(Engine):
        assert backend(engine=engine, simulated=True).effective_capabilities().simulated
        assert not backend(engine=engine).effective_capabilities().simulated
