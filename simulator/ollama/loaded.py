"""Which models are loaded, which wait for it, and which are to go: Ollama's scheduler as far as it can be seen.

One load at a time; a model that is used stays until its requests end ("Stopping…"), and its memory goes back after
the answer that said so (facts: gpu-backends §1.2).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from simulator.errors import EngineError
from simulator.settings import SimulatorSettings
from simulator.vram import Vram

__all__ = ["Loaded", "Runner"]

_FOREVER_S = 100 * 365 * 86_400.0


class Runner:
    """One loaded model."""

    __slots__ = ("context", "expiry", "keep_s", "model", "stopping", "users")

    def __init__(self, model: str, context: int, keep_s: float) -> None:
        self.model = model
        self.context = context
        self.keep_s = keep_s
        self.users = 0
        #: An unload was asked for while it was in use.
        self.stopping = False
        self.expiry: asyncio.TimerHandle | None = None

    @property
    def expires_at(self) -> str:
        """As `/api/ps` shows it."""
        left_s = 0.0 if self.stopping else self.keep_s if self.keep_s >= 0 else _FOREVER_S
        if self.expiry is not None:
            left_s = max(0.0, self.expiry.when() - asyncio.get_running_loop().time())
        return (datetime.now(UTC) + timedelta(seconds=min(left_s, _FOREVER_S))).isoformat()


class Waiting:
    """One request whose model is not loaded yet."""

    def __init__(
        self, queue: deque[Waiting], model: str, context: int, keep_s: float, then: Callable[[], None]
    ) -> None:
        self._queue = queue
        self.model = model
        self.context = context
        self.keep_s = keep_s
        self.then = then

    def cancel(self) -> None:
        """Its client is gone."""
        if self in self._queue:
            self._queue.remove(self)


class Loaded:
    """All models of one server.

    Args:
        settings: how long loading takes, and how many models there may be.
        vram: what they hold.
        loop: for loads and expiries.
    """

    def __init__(self, settings: SimulatorSettings, vram: Vram, loop: asyncio.AbstractEventLoop) -> None:
        self._settings = settings
        self._vram = vram
        self._loop = loop
        self.runners: dict[str, Runner] = {}
        self._queue: deque[Waiting] = deque()
        self._loading: asyncio.TimerHandle | None = None

    @property
    def pending(self) -> int:
        """Requests that wait for a load."""
        return len(self._queue)

    def want(self, model: str, *, context: int, keep_s: float | None, then: Callable[[], None]) -> Waiting | None:
        """Have `then` called once `model` is loaded: now, or later; None = it was called.

        Raises:
            EngineError: 503, too many wait for a load already.
        """
        keep_s = self._settings.keep_loaded_ms / 1000 if keep_s is None else keep_s
        runner = self.runners.get(model)
        if runner is not None and not runner.stopping and runner.context == context:
            runner.keep_s = keep_s
            self._use(runner, then)
            return None
        if len(self._queue) >= self._settings.max_pending_loads:
            raise EngineError("server busy, please try again.  maximum pending requests exceeded", status=503)
        waiting = Waiting(self._queue, model, context, keep_s, then)
        self._queue.append(waiting)
        self._next()
        return waiting

    def done(self, model: str) -> None:
        """A request at `model` is over."""
        runner = self.runners.get(model)
        if runner is None:
            return
        runner.users -= 1
        if runner.users == 0:
            if runner.stopping or runner.keep_s == 0:
                self._unload(runner)
            else:
                self._expire(runner)
        self._next()

    def unload(self, model: str) -> None:
        """Let a model go; one in use goes when its requests end."""
        runner = self.runners.get(model)
        if runner is None:
            return
        runner.stopping = True
        if runner.users == 0:
            self._unload(runner)
            self._next()

    def close(self) -> None:
        """No timer is left behind."""
        if self._loading is not None:
            self._loading.cancel()
        for runner in self.runners.values():
            if runner.expiry is not None:
                runner.expiry.cancel()

    def _use(self, runner: Runner, then: Callable[[], None]) -> None:
        runner.users += 1
        if runner.expiry is not None:
            runner.expiry.cancel()
            runner.expiry = None
        then()

    def _next(self) -> None:
        """Begin the next load, if there is room for it; head of line, as in Ollama."""
        if self._loading is not None or not self._queue:
            return
        first = self._queue[0]
        present = self.runners.get(first.model)
        if present is not None:
            if present.users:
                return  # stopping, or to be loaded anew with another context: its users end first
            self._unload(present)
        if len(self.runners) >= self._settings.max_loaded_models:
            idle = [runner for runner in self.runners.values() if runner.users == 0]
            if not idle:
                return
            self._unload(min(idle, key=lambda runner: runner.keep_s))
        self._loading = self._loop.call_later(self._settings.load_ms / 1000, self._loaded, first)

    def _loaded(self, first: Waiting) -> None:
        self._loading = None
        runner = self.runners[first.model] = Runner(first.model, first.context, first.keep_s)
        self._vram.take(first.model, self._settings.weights_bytes + self._settings.kv_bytes)
        served = [one for one in self._queue if one.model == first.model and one.context == first.context]
        for one in served:
            self._queue.remove(one)
            self._use(runner, one.then)
        if not served:
            self._expire(runner)
        self._next()

    def _expire(self, runner: Runner) -> None:
        if runner.keep_s >= 0:
            runner.expiry = self._loop.call_later(runner.keep_s, self.unload, runner.model)

    def _unload(self, runner: Runner) -> None:
        if runner.expiry is not None:
            runner.expiry.cancel()
        del self.runners[runner.model]
        self._vram.give(runner.model)


def now_text() -> str:
    """Return this moment as Ollama writes it."""
    return datetime.fromtimestamp(time.time(), UTC).isoformat().replace("+00:00", "Z")
