from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.wire.tokens import MAX_TOKEN_CHARS, PREFIX, Claims, signed, verified

SECRET = bytes(range(32))
CLAIMS = Claims(key="k-1", expires_at=1_900_000_000, models=("m", "n"), origin="https://app.example", user="u7")
TOKEN = signed(CLAIMS, SECRET)


def text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def parts(token: str) -> tuple[str, str]:
    payload, _, mac = token.removeprefix(PREFIX).partition(".")
    return payload, mac


def test_what_was_signed_is_read_again() -> None:
    assert verified(TOKEN, SECRET) == CLAIMS
    for claims in (Claims(key="k", expires_at=0), Claims(key="k", expires_at=1, models=(), avatars=("a",))):
        assert verified(signed(claims, SECRET), SECRET) == claims


def test_it_stands_in_a_url_and_in_a_header_as_it_is() -> None:
    assert all(char.isalnum() or char in "-_." for char in TOKEN)


def test_its_claims_are_json_for_whoever_holds_it() -> None:
    payload, _ = parts(TOKEN)
    assert json.loads(base64.urlsafe_b64decode(payload + "==="))["models"] == ["m", "n"]


FORGERIES = {
    "nothing": "",
    "the prefix alone": PREFIX,
    "no mac": f"{PREFIX}{parts(TOKEN)[0]}",
    "an empty mac": f"{PREFIX}{parts(TOKEN)[0]}.",
    "another prefix": TOKEN.replace(PREFIX, "hr-", 1),
    "other claims, same mac": f"{PREFIX}{text(b'{}')}.{parts(TOKEN)[1]}",
    "a mac of another secret": signed(CLAIMS, bytes(32)),
    "a mac without the purpose": f"{PREFIX}{parts(TOKEN)[0]}."
    + text(hmac.digest(SECRET, parts(TOKEN)[0].encode(), hashlib.sha256)),
    "an unkeyed digest": f"{PREFIX}{parts(TOKEN)[0]}." + text(hashlib.sha256(parts(TOKEN)[0].encode()).digest()),
    "a shortened mac": TOKEN[:-1],
    "a longer mac": TOKEN + "A",
    "padding": TOKEN + "=",
    "a second dot": TOKEN + ".",
    "not ASCII": TOKEN[:-1] + "é",
    "white space": TOKEN + " ",
    "larger than any": PREFIX + "A" * MAX_TOKEN_CHARS,
}


@pytest.mark.parametrize("name", FORGERIES)
def test_anything_else_is_nothing(name: str) -> None:
    assert verified(FORGERIES[name], SECRET) is None


def test_every_single_changed_character_breaks_it() -> None:
    for at in range(len(PREFIX), len(TOKEN)):
        changed = "A" if TOKEN[at] != "A" else "B"
        assert verified(TOKEN[:at] + changed + TOKEN[at + 1 :], SECRET) is None, at


def test_an_empty_secret_signs_for_nobody() -> None:
    assert verified(signed(CLAIMS, b""), b"") is None


def test_a_payload_that_is_no_claims_is_nothing_though_it_is_signed() -> None:
    for payload in (b"", b"[]", b'{"key": 1}', b"\xff\xfe", b'{"key":"k"}'):
        head = text(payload)
        mac = hmac.digest(SECRET, b"headrace client token 1\0" + head.encode(), hashlib.sha256)
        assert verified(f"{PREFIX}{head}.{text(mac)}", SECRET) is None


def test_too_many_names_are_refused() -> None:
    with pytest.raises(ValueError, match="the limit is 3072"):
        signed(Claims(key="k", expires_at=1, models=tuple(f"model-{n:0200}" for n in range(20))), SECRET)


@given(st.text(max_size=200))
def test_no_text_is_taken(junk: str) -> None:
    assert verified(junk, SECRET) is None
    assert verified(PREFIX + junk, SECRET) is None
