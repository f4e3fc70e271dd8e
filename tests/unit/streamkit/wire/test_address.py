from __future__ import annotations

import pytest

from streamkit.wire.address import parsed, place


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("127.0.0.1:8000", "127.0.0.1", 8000), ("[::1]:80", "::1", 80), ("gpu:0", "gpu", 0)],
)
def test_what_is_read_is_shown_as_it_was(text: str, host: str, port: int):
    assert parsed(text) == (host, port)
    assert place(host, port) == text


@pytest.mark.parametrize("text", ["8000", ":8000", "host:", "host:port", "host:65536", "host:-1"])
def test_anything_else_is_refused_with_what_was_found(text: str):
    with pytest.raises(ValueError, match=f"expected HOST:PORT, such as 127.0.0.1:8000, got {text}"):
        parsed(text)
