"""The simulator as a server: embeddable in a test, or run to its end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator

from simulator.connection import Connection
from simulator.engine import Engine, Stats
from simulator.errors import engine_dead
from simulator.flavours import flavour
from simulator.routes import Routes
from simulator.settings import SimulatorSettings
from streamkit.wire.address import place

__all__ = ["Simulator", "serve"]

_BACKLOG = 4096
#: How long a client gets to take the last bytes of a cut stream.
_FLUSH_S = 1.0


class Simulator:
    """A running simulator. Made by `Simulator.start`.

    Attributes:
        url: `http://host:port`, without `/v1`.
        port: the port that it listens on.
        engine: what is behind it.
    """

    def __init__(self, engine: Engine, routes: Routes, server: asyncio.Server) -> None:
        self.engine = engine
        self._routes = routes
        self._server = server
        self.port: int = server.sockets[0].getsockname()[1]
        self.url = f"http://{place(engine.settings.host, self.port)}"

    @classmethod
    async def start(cls, settings: SimulatorSettings | None = None) -> Simulator:
        """Listen, and return the running simulator.

        Raises:
            OSError: the address cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        engine = Engine(settings or SimulatorSettings(), loop)
        routes = flavour(engine)
        where = engine.settings
        server = await loop.create_server(lambda: Connection(routes, loop), where.host, where.port, backlog=_BACKLOG)
        simulator = cls(engine, routes, server)
        try:
            await routes.start()
        except BaseException:
            await simulator.close()
            raise
        return simulator

    @property
    def backend_url(self) -> str:
        """What a `[[backends]]` table says; another port than `url` where the engine speaks gRPC."""
        return self._routes.backend_url or self.url

    @property
    def stats(self) -> Stats:
        """The counters and gauges of this moment."""
        return self.engine.snapshot()

    async def close(self) -> None:
        """Stop at once: every connection is dropped. Closing twice is harmless."""
        self._server.close()
        for connection in list(self._routes.connections):
            connection.reset()
        await self._routes.quiet.wait()
        self.engine.batch.close()
        await self._routes.close()
        await self._server.wait_closed()

    async def shut_down(self) -> None:
        """Stop as SIGTERM stops the engine, by `on_sigterm`.

        "drain": new work is refused with 500 while the listener stays, what runs goes on for at most
        `shutdown_timeout_ms` (behaviour.txt `[drain]`). "cut", and the end of a drain: streams get an error frame
        and `[DONE]`, other answers are 500 (behaviour.txt `[term_api]`).
        """
        settings = self.engine.settings
        self.engine.draining = True
        if settings.on_sigterm == "drain":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(settings.shutdown_timeout_ms * 0.001):
                    await self.engine.idle.wait()
        self._server.close()
        for generation in self.engine.open:
            generation.fail(engine_dead())
        for connection in list(self._routes.connections):
            connection.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_S):
                await self._routes.quiet.wait()
        await self.close()


async def serve(
    settings: SimulatorSettings,
    *,
    ready: Callable[[Simulator], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve until `stop` is set or the process gets SIGTERM or SIGINT; a second signal cuts a drain short.

    Args:
        settings: of the simulator.
        ready: called once, when connections are taken.
        stop: set by whoever embeds the server; None leaves only signals.

    Raises:
        OSError: the address cannot be listened on.
    """
    simulator = await Simulator.start(settings)
    stop = asyncio.Event() if stop is None else stop
    hurry = asyncio.Event()

    def on_signal() -> None:
        (hurry if stop.is_set() else stop).set()

    with _signals(on_signal):
        if ready is not None:
            ready(simulator)
        try:
            await stop.wait()
            ending = asyncio.ensure_future(simulator.shut_down())
            hurried = asyncio.ensure_future(hurry.wait())
            await asyncio.wait([ending, hurried], return_when=asyncio.FIRST_COMPLETED)
            for task in (ending, hurried):
                task.cancel()
            await asyncio.wait([ending, hurried])
            if not ending.cancelled():
                ending.result()
        finally:
            await simulator.close()


@contextlib.contextmanager
def _signals(handler: Callable[[], None]) -> Iterator[None]:
    """Have SIGTERM and SIGINT call `handler`, where this thread may."""
    loop = asyncio.get_running_loop()
    caught: list[int] = []
    for number in (int(signal.SIGTERM), int(signal.SIGINT)):
        # Only the main thread may; elsewhere whoever embeds us stops us through `stop`.
        with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):
            loop.add_signal_handler(number, handler)
            caught.append(number)
    try:
        yield
    finally:
        for number in caught:
            loop.remove_signal_handler(number)
