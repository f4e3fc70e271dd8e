"""Foreign bytes: whatever is wrong with them, who reads them knows it."""

from __future__ import annotations

import msgspec
import pytest

from streamkit.wire.unreadable import UNREADABLE

BAD = {"syntax": b"{", "type": b"[]", "utf-8": b'{"a": "\xff"}', "depth": b"[" * 40_000, "nothing": b""}


class _Shape(msgspec.Struct):
    a: str = ""


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_what_the_decoder_raises_is_all_of_it(body: bytes):
    with pytest.raises(UNREADABLE):
        msgspec.json.decode(body, type=_Shape)
