"""What passes between us and the espeak-ng process: JSON lines to it, frames from it.

To it, one line each: {"say": 7, "text": "…", "voice": "en-us", "wpm": 165}, {"stop": 7}.
From it, a head of nine bytes (kind, number of the text, length), then the frame.
"""

from __future__ import annotations

import struct
from typing import Final

__all__ = ["END", "FAILED", "HEAD", "HELLO", "PCM"]

#: Kind, the text's number, bytes that follow.
HEAD: Final = struct.Struct("<BII")
#: JSON: {"rate": Hz, "voices": [...], "version": "…"}; the first frame.
HELLO: Final = 0
#: Samples, signed 16 bit little endian, one channel.
PCM: Final = 1
#: Nothing more of this text; empty.
END: Final = 2
#: Instead of END: why, as UTF-8.
FAILED: Final = 3
