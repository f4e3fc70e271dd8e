"""Which pages may connect."""

from __future__ import annotations

import pytest

from edge.endpoints.origin import check_origin
from edge.protocol.cors import Cors
from streamkit.wire.errors import Code, HeadraceError


def scope(host: str, *origins: str) -> dict:
    return {"headers": [(b"host", host.encode()), *((b"origin", origin.encode("latin-1")) for origin in origins)]}


@pytest.mark.parametrize(
    ("host", "origins"),
    [
        ("edge:7400", []),
        ("edge:7400", ["http://edge:7400"]),
        ("Edge:7400", ["HTTP://eDGE:7400"]),
        ("edge.example", ["http://edge.example"]),
        ("edge.example", ["https://edge.example"]),
        ("edge.example:443", ["https://edge.example"]),
        ("edge.example", ["https://edge.example:443"]),
        ("[::1]:7400", ["http://[::1]:7400"]),
        ("edge", ["https://app.example"]),
        ("edge", ["HTTPS://App.Example"]),
    ],
)
def test_our_own_pages_allowed_ones_and_programs_may(host, origins):
    check_origin(scope(host, *origins), Cors(["https://app.example"]))


@pytest.mark.parametrize(
    ("host", "origins"),
    [
        ("edge:7400", ["http://edge:7401"]),
        ("edge:7400", ["http://other:7400"]),
        ("edge", ["http://edge:8080"]),
        ("edge", ["null"]),
        ("edge", [""]),
        ("edge", ["file://"]),
        ("edge", ["ftp://edge"]),
        ("edge", ["http://edge.evil.example"]),
        ("edge", ["http://evil.example/edge"]),
        ("edge", ["http://user@evil.example"]),
        ("edge", ["http://[edge"]),
        ("edge", ["http://edge:port"]),
        ("edge", ["http://edge", "http://edge"]),
        ("edge", ["https://app.example", "http://evil.example"]),
        ("edge", ["https://app.example.evil.example"]),
        ("", ["http://"]),
        ("", ["http://evil.example"]),
        ("ed[ge", ["http://edge"]),
        ("edge", ["http://\xe9\x01" + "x" * 500]),
    ],
)
def test_foreign_pages_may_not(host, origins):
    with pytest.raises(HeadraceError, match="may not connect here") as caught:
        check_origin(scope(host, *origins), Cors(["https://app.example"]))
    assert caught.value.code is Code.FORBIDDEN
    assert caught.value.param == "Origin"
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 400


def test_a_star_allows_all():
    check_origin(scope("edge", "http://evil.example"), Cors(["*"]))
