"""One life of the espeak-ng process: started, spoken through, ended; its death is told to whoever waits."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import itertools
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from compositor.speech.espeak.wire import END, FAILED, HEAD, HELLO, PCM
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["EspeakProcess", "Hello", "installed"]

_PROGRAM: Final = "compositor.speech.espeak.program"
#: Where our packages lie.
_ROOT: Final = str(Path(__file__).resolve().parents[3])
_START_S: Final = 10.0
#: Of one piece of text, which takes milliseconds.
_PIECE_S: Final = 5.0
#: For the words of a stopped one to end.
_STOP_S: Final = 1.0
#: Of one piece of text: six minutes.
_MAX_BYTES: Final = 16 * 1024 * 1024
_MAX_FRAME_BYTES: Final = 1024 * 1024


def installed() -> bool:
    """Say whether the library's wheel is there, without loading it."""
    return importlib.util.find_spec("espeakng_loader") is not None


class Hello(msgspec.Struct, frozen=True):
    """What the process says first."""

    rate: int
    voices: tuple[str, ...]
    version: str = ""


@dataclass(eq=False, slots=True)
class _Piece:
    number: int
    done: asyncio.Future[bytes]
    samples: bytearray = field(default_factory=bytearray)


class EspeakProcess:
    """A running process. Made by `EspeakProcess.start`; what it says is read by a task."""

    def __init__(self, process: Process, hello: Hello) -> None:
        self.hello = hello
        self.process = process
        #: Set once it is gone.
        self.ended = asyncio.Event()
        self._piece: _Piece | None = None
        self._numbers = itertools.count(1)
        self._reading = asyncio.create_task(self._read(), name="espeak")

    @classmethod
    async def start(cls) -> EspeakProcess:
        """Start it.

        Raises:
            HeadraceError: it cannot be started, or has nothing to speak with.
        """
        paths = [_ROOT, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        # It needs no key of ours.
        environment = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", _PROGRAM, stdin=PIPE, stdout=PIPE, stderr=DEVNULL,
            env={**environment, "PYTHONPATH": os.pathsep.join(paths)},
        )  # fmt: skip
        try:
            async with asyncio.timeout(_START_S):
                kind, _, data = await _frame(process)
            if kind != HELLO:
                raise HeadraceError(Code.NO_BACKEND, data.decode("utf-8", "replace")[:300])
            return cls(process, msgspec.json.decode(data, type=Hello))
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            if isinstance(error, TimeoutError | asyncio.IncompleteReadError | msgspec.DecodeError):
                raise HeadraceError(Code.NO_BACKEND, "the espeak-ng process did not start") from None
            raise

    async def speak(self, text: str, voice: str, wpm: int) -> bytes:
        """Return the samples of one piece of text; one caller at a time. A caller that is cancelled stops it.

        Raises:
            HeadraceError: it died, refused, or said nothing for too long.
        """
        piece = _Piece(next(self._numbers), asyncio.get_running_loop().create_future())
        self._piece = piece
        try:
            self._order({"say": piece.number, "text": text, "voice": voice, "wpm": wpm})
            async with asyncio.timeout(_PIECE_S):
                return await asyncio.shield(piece.done)
        except TimeoutError:
            self.kill()
            await self.ended.wait()
            raise HeadraceError(
                Code.BACKEND_TIMEOUT, f"the espeak-ng process said nothing for {_PIECE_S:g} s and was ended"
            ) from None
        except asyncio.CancelledError:
            self._order({"stop": piece.number})
            await asyncio.wait([piece.done], timeout=_STOP_S)
            if not piece.done.done():
                self.kill()
                await self.ended.wait()
            raise
        finally:
            self._piece = None
            if not piece.done.done():
                piece.done.cancel()
            elif not piece.done.cancelled():
                piece.done.exception()

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def aclose(self) -> None:
        """End it and wait for that: it ends with its input, or is killed."""
        stdin = self.process.stdin
        if stdin is not None:
            stdin.close()
        await asyncio.wait([self._reading], timeout=_STOP_S)
        if not self._reading.done():
            self.kill()
        await self._reading

    def _order(self, order: dict[str, object]) -> None:
        stdin = self.process.stdin
        if stdin is not None and not stdin.is_closing():
            stdin.write(msgspec.json.encode(order) + b"\n")

    async def _read(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                self._take(*await _frame(self.process))
        await _ended(self.process)
        self.ended.set()
        piece = self._piece
        if piece is not None and not piece.done.done():
            status = self.process.returncode
            how = f"was ended by signal {-status}" if status is not None and status < 0 else f"ended with {status}"
            piece.done.set_exception(
                HeadraceError(Code.BACKEND_ERROR, f"the espeak-ng process {how} in the middle of a sentence")
            )

    def _take(self, kind: int, number: int, data: bytes) -> None:
        piece = self._piece
        if piece is None or piece.number != number or piece.done.done():
            return
        if kind == PCM:
            piece.samples += data
            if len(piece.samples) > _MAX_BYTES:
                self._order({"stop": number})
                piece.done.set_exception(
                    HeadraceError(Code.TOO_LARGE, f"text: a sentence of more than {_MAX_BYTES} bytes of samples")
                )
        elif kind == END:
            piece.done.set_result(bytes(piece.samples))
        elif kind == FAILED:
            piece.done.set_exception(HeadraceError(Code.BACKEND_ERROR, data.decode("utf-8", "replace")[:300]))


async def _frame(process: Process) -> tuple[int, int, bytes]:
    stdout = process.stdout
    if stdout is None:
        raise asyncio.IncompleteReadError(b"", HEAD.size)
    kind, number, size = HEAD.unpack(await stdout.readexactly(HEAD.size))
    if size > _MAX_FRAME_BYTES:
        raise asyncio.IncompleteReadError(b"", size)
    return kind, number, await stdout.readexactly(size)


async def _ended(process: Process) -> None:
    """Wait for a process that has closed its output, or kill it: nothing is left behind.

    Killing what has just died would take its status from whoever waits for it.
    """
    try:
        async with asyncio.timeout(_STOP_S):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
