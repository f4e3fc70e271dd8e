"""The espeak-ng process: `python -m compositor.speech.espeak.program`.

The library is loaded here and nowhere else. Its state is global, so one text is spoken at a time; a second thread
reads the orders, so that a text can be stopped in the middle. It ends with its input.
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import sys
import threading
from typing import Any, Final

from compositor.speech.espeak.wire import END, FAILED, HEAD, HELLO, PCM

__all__ = ["main"]

_SYNCHRONOUS: Final = 2
#: Without it a bad data path ends the process without a word.
_DONT_EXIT: Final = 0x8000
_CHUNK_MS: Final = 60
_UTF8: Final = 1
_END_PAUSE: Final = 0x1000
_CHARACTERS: Final = 1
_RATE: Final = 1
_EXIT_UNUSABLE: Final = 3


class _Voice(ctypes.Structure):
    """`espeak_VOICE` of speak_lib.h, as far as it is read."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("unused", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class _Espeak:
    """The library.

    Raises:
        OSError: it cannot be loaded or initialised.
    """

    def __init__(self, out: int) -> None:
        import espeakng_loader  # noqa: PLC0415  the library's wheel; this process is the only one that has it

        self._out = out
        self._library: Any = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        self.rate = int(self._library.espeak_Initialize(_SYNCHRONOUS, _CHUNK_MS, data, _DONT_EXIT))
        if self.rate <= 0:
            raise OSError(f"espeak_Initialize answered {self.rate}")
        # Kept: the library calls it for as long as it lives.
        self._callback = _Callback(self._samples)
        self._library.espeak_SetSynthCallback(self._callback)
        self._number = 0
        #: Texts up to this number are not to be spoken any further; numbers rise.
        self.stopped = 0

    def voices(self) -> list[str]:
        """Return the language of each voice, sorted."""
        self._library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
        listed = self._library.espeak_ListVoices(None)
        found: set[str] = set()
        at = 0
        while listed[at]:
            # A byte of priority, then the language.
            found.add((listed[at].contents.languages or b"")[1:].decode("utf-8", "replace"))
            at += 1
        return sorted(found - {""})

    def version(self) -> str:
        """Return the library's own version."""
        self._library.espeak_Info.restype = ctypes.c_char_p
        return str((self._library.espeak_Info(None) or b"").decode("utf-8", "replace"))

    def say(self, number: int, text: str, voice: str, wpm: int) -> None:
        """Speak a text, its samples as frames."""
        self._number = number
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            send(self._out, FAILED, number, f"espeak-ng has no voice {voice}".encode())
            return
        self._library.espeak_SetParameter(_RATE, wpm, 0)
        data = text.encode() + b"\0"
        done = self._library.espeak_Synth(
            data, ctypes.c_size_t(len(data)), 0, _CHARACTERS, 0, _UTF8 | _END_PAUSE, None, None
        )
        if done != 0:
            send(self._out, FAILED, number, f"espeak_Synth answered {done}".encode())
        else:
            send(self._out, END, number)

    def _samples(self, wav: Any, count: int, _: Any) -> int:
        if wav and count > 0 and self._number > self.stopped:
            send(self._out, PCM, self._number, ctypes.string_at(wav, 2 * count))
        return int(self._number <= self.stopped)


def send(out: int, kind: int, number: int, data: bytes = b"") -> None:
    """Write one frame, all of it."""
    left = memoryview(HEAD.pack(kind, number, len(data)) + data)
    while left:
        left = left[os.write(out, left) :]


def main() -> int:
    """Speak what is ordered until the input ends; 3 when there is no library to speak with."""
    # Whatever the library prints must not run into the frames.
    out = os.dup(1)
    os.dup2(2, 1)
    try:
        espeak = _Espeak(out)
        hello = {"rate": espeak.rate, "voices": espeak.voices(), "version": espeak.version()}
    except (ImportError, OSError, AttributeError) as error:
        send(out, FAILED, 0, f"espeak-ng cannot be used: {error}".encode())
        return _EXIT_UNUSABLE
    send(out, HELLO, 0, json.dumps(hello).encode())
    orders: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin.buffer:
            order = json.loads(line)
            if "stop" in order:
                espeak.stopped = order["stop"]
            else:
                orders.put(order)
        orders.put(None)

    threading.Thread(target=read, name="orders", daemon=True).start()
    while (order := orders.get()) is not None:
        espeak.say(order["say"], order["text"], order["voice"], order["wpm"])
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:
        # Whoever listened is gone.
        os._exit(0)
