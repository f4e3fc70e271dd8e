from __future__ import annotations

import re

import pytest

from edge.protocol.cors import ORIGIN, Cors

APP = b"https://app.example"
RULE = Cors(["https://app.example", "http://127.0.0.1:3000"])


def named(rule: Cors, origin: bytes | None) -> dict[bytes, bytes]:
    asked = [(b"host", b"h"), *([(b"origin", origin)] if origin is not None else [])]
    headers = rule.headers(asked)
    assert len({name for name, _ in headers}) == len(headers)
    return dict(headers)


@pytest.mark.parametrize("origin", [APP, b"http://127.0.0.1:3000"])
def test_a_listed_origin_may_read_the_answer_and_what_it_needs_of_its_headers(origin: bytes) -> None:
    headers = named(RULE, origin)
    assert headers[b"access-control-allow-origin"] == origin
    exposed = {name.strip().lower() for name in headers[b"access-control-expose-headers"].split(b",")}
    for name in (
        "x-request-id",
        "x-headrace-stream",
        "x-headrace-backend",
        "retry-after",
        "location",
        "etag",
        "link",
    ):
        assert name.encode() in exposed
    assert sum(name.startswith(b"x-ratelimit-") for name in exposed) == 6
    assert headers[b"vary"] == b"Origin"
    assert b"access-control-allow-credentials" not in headers


@pytest.mark.parametrize(
    "origin",
    [
        None,
        b"",
        b"null",
        b"https://app.example.evil.example",
        b"https://app.example/",
        b"http://app.example",
        b"https://app.example:444",
        b"HTTPS://APP.EXAMPLE",
        b"https://app.example\xff",
        b"*",
    ],
)
def test_any_other_gets_nothing_but_a_note_for_caches(origin: bytes | None) -> None:
    assert named(RULE, origin) == {b"vary": b"Origin"}
    assert not RULE.allows(origin or b"")


def test_everybody_is_a_star_without_credentials_and_without_vary() -> None:
    headers = named(Cors(["*"]), b"https://anywhere.example")
    assert headers[b"access-control-allow-origin"] == b"*"
    assert b"vary" not in headers
    assert b"access-control-allow-credentials" not in headers
    assert Cors(["*"]).allows(b"null")


def test_without_configuration_nothing_is_added() -> None:
    assert named(Cors(), APP) == {}


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        (b"authorization,content-type,x-stainless-lang", b"authorization,content-type,x-stainless-lang"),
        (b"authorization, content-type", b"authorization, content-type"),
        (b"", None),
        (b"bad header", None),
        (b"x\xff", None),
        (b"a," * 2_000 + b"a", None),
        (b"a,,b", None),
    ],
)
def test_a_preflight_repeats_what_is_asked_if_it_is_a_list_of_names(asked: bytes, allowed: bytes | None) -> None:
    headers = dict(RULE.preflight(asked))
    assert headers[b"access-control-allow-headers"] == (
        allowed or b"authorization, content-type, last-event-id, x-request-id"
    )
    assert b"DELETE" in headers[b"access-control-allow-methods"]


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("https://app.example", True),
        ("http://localhost:3000", True),
        ("http://[::1]:8080", True),
        ("capacitor://localhost", True),
        ("https://app.example/", False),
        ("app.example", False),
        ("https://App.example", False),
        ("https://*.example", False),
        ("null", False),
        ("https://", False),
        ("https://a b", False),
    ],
)
def test_what_counts_as_an_origin(text: str, good: bool) -> None:
    assert bool(re.fullmatch(ORIGIN, text)) is good
