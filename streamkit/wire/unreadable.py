"""What decoding foreign bytes raises where they are not what was expected."""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["UNREADABLE"]

#: msgspec tells of bad UTF-8 inside a string, and of nesting beyond its depth, by exceptions that are not its own.
UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
