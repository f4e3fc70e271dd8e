"""`headrace up`: everything on one machine, with the engines it has, or the simulator."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from launch import avatar, config, detect
from launch.child import StartError
from launch.configuration import Configuration
from launch.detect import Finding
from launch.folder import state_folder
from launch.layout import EDGE, Layout
from launch.leave import leave_with
from launch.ports import PORT_BASE, check_ports
from launch.rows import rows
from launch.screen import Screen
from launch.site import GaveUpError, Site
from streamkit.ops import server
from streamkit.ops.http_client import HttpClient, HttpError
from streamkit.ops.settings import SettingsError
from streamkit.ops.signals import handled
from streamkit.ops.tls import trusting

__all__ = ["up"]

_PATIENCE_S: Final = 2.0
_READY_MS: Final = 5_000
#: For backends that a file names, which may well be down.
_STRANGERS_MS: Final = 1_000
_READY_POLL_S: Final = 0.05
_PROBE_MS: Final = 2_000


def up(options: argparse.Namespace) -> int:
    """Run until a signal comes, and return the exit status.

    Raises:
        SettingsError: the configuration cannot be used.
    """
    return server.run(lambda: _up(options, Screen()))


async def _up(options: argparse.Namespace, screen: Screen) -> int:
    leave_with(options.leave_with)
    plan, findings = await _plan(options)
    base = PORT_BASE if options.port_base is None else options.port_base
    with state_folder(base) as folder:
        running = _Running(plan, findings, folder, screen, options.ready_file)
        work = asyncio.create_task(running.work(), name="up")
        with handled(_handlers(lambda: running.leave(work), lambda: _hangup(options, running, work))):
            try:
                await work
            except asyncio.CancelledError:
                return 0
            except StartError as error:
                return running.failed(error)
            except GaveUpError as error:
                screen.line(screen.red(f"{error}; giving up"))
                return 1
            finally:
                await running.end()
        return 0


def _handlers(end: Callable[[], None], hangup: Callable[[], None]) -> dict[signal.Signals, Callable[[], None]]:
    found = {signal.SIGINT: end, signal.SIGTERM: end, signal.SIGHUP: hangup}
    # nohup means: go on without the terminal.
    return {number: handler for number, handler in found.items() if signal.getsignal(number) is not signal.SIG_IGN}


async def _plan(options: argparse.Namespace) -> tuple[Configuration, list[Finding]]:
    """Return what to run, and what was found on the machine (nothing, where a file says what to run)."""
    findings: list[Finding] = []
    if options.config is not None:
        plan = config.load(options.config)
    else:
        findings = [*await detect.find(), *avatar.findings(wanted=not options.no_avatar)]
        backends = tuple(finding.backend for finding in findings if finding.backend is not None)
        plan = config.of_machine(backends)
    return _placed(plan, options), findings


def _placed(plan: Configuration, options: argparse.Namespace) -> Configuration:
    """Return `plan` with the ports, and without the services, that the command line says.

    Raises:
        SettingsError: there are no such ports.
    """
    plan = plan.without_avatar() if options.no_avatar else plan
    if options.port_base is not None:
        plan = plan.on(options.port_base)
    if options.edge_port is not None:
        plan = plan.with_edge_port(options.edge_port)
    check_ports(plan, "command line")
    return plan


def _hangup(options: argparse.Namespace, running: _Running, work: asyncio.Task[None]) -> None:
    """Take SIGHUP: a terminal that goes away ends us; without one it means the file is to be read again."""
    if running.on_terminal or options.config is None:
        running.leave(work)
        return
    try:
        running.reload(_placed(config.load(options.config), options))
    except SettingsError as error:
        running.refused(str(error))


class _Running:
    """One run: what its terminal and its ready file show."""

    def __init__(
        self,
        plan: Configuration,
        findings: list[Finding],
        folder: Path,
        screen: Screen,
        ready_file: str | None,
    ) -> None:
        self._findings = findings
        self._screen = screen
        self._ready_file = ready_file
        self._begun = time.monotonic()
        self._up = False
        self._leaving = False
        self._unlisted = "no model answers yet: are the backends running?"
        self._layout = Layout(plan, folder)
        self._site = Site(self._layout, self)

    async def work(self) -> None:
        """Start all, say so, and keep it alive."""
        await self._site.start()
        keeping = asyncio.create_task(self._site.keep(), name="keep")
        try:
            async with HttpClient(tls=self._trust()) as http:
                reasons = await self._ready(http)
                models = await self._models(http)
            self._up = True
            self._show(reasons, models)
            self.changed()
            await keeping
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    def leave(self, work: asyncio.Task[None]) -> None:
        """Take a signal: the first stops gracefully, the next one cuts what still streams."""
        if self._leaving:
            self._site.interrupt()
            return
        self._leaving = True
        if self._up:
            hint = " (again to cut the streams under way)" if self._screen.live else ""
            self._screen.line(f"Stopping{hint}")
        work.cancel()

    @property
    def on_terminal(self) -> bool:
        """Whether a person watches."""
        return self._screen.live

    def reload(self, plan: Configuration) -> None:
        """Put another configuration into force, as far as that goes without a restart."""
        left = self._site.reload(plan)
        self._screen.line(f"Read {self._layout.file} again")
        for what in left:
            self._screen.line(self._screen.red(f"  needs a restart: {what}"))

    def refused(self, reason: str) -> None:
        """Say why a configuration was not put into force."""
        self._screen.line(self._screen.red(f"Not reloaded: {reason}"))

    async def end(self) -> None:
        """End every child."""
        self._leaving = True
        await self._site.stop()
        if self._ready_file is not None:
            Path(self._ready_file).unlink(missing_ok=True)  # noqa: ASYNC240  nothing else runs any more

    def failed(self, error: StartError) -> int:
        """Say why a start failed; 2 = what the person asked for cannot be, 1 = anything else."""
        self.died(str(error), error.lines)
        return 2 if error.status == server.EXIT_ADDRESS else 1

    def starting(self, names: list[str]) -> None:
        """Say what is not ready yet."""
        self._passing(f"starting {', '.join(names)} …")

    def died(self, what: str, lines: list[str]) -> None:
        """Report a death with the last lines of the log."""
        self._screen.line(self._screen.red(what))
        for line in lines[-8:]:
            self._screen.line(f"  {line}")

    def changed(self) -> None:
        """Write the ready file anew: process ids change with a restart."""
        if self._ready_file is None or not self._up:
            return
        services = [child.ready for child in self._layout.children.values()]
        engines: list[dict[str, Any]] = [
            {"name": backend.name, "url": backend.url, "ops_url": None, "pid": None, "kind": "engine"}
            for backend in self._layout.plan.backends
        ]
        server.write_ready_file(self._ready_file, {"services": [*services, *engines]})

    def _trust(self) -> ssl.SSLContext | None:
        """Return what is trusted of the edge: the very certificate that it was given, whatever name is in it."""
        cert = self._layout.plan.edge.tls_cert
        return trusting(cert, "edge.tls_cert", named=False) if cert else None

    async def _ready(self, http: HttpClient) -> str:
        """Return an empty string once the edge takes work, or why it still does not after a while."""
        reasons = "no answer"

        async def ready() -> bool:
            nonlocal reasons
            answer = await http.get(f"{self._url(EDGE, 'ops_url')}/readyz", timeout_ms=_PROBE_MS)
            reasons = answer.body.decode("utf-8", "replace")
            return answer.status == 200

        return "" if await self._until(ready, "the edge", _READY_MS) else reasons

    async def _models(self, http: HttpClient) -> list[str]:
        """Return what the edge serves, as soon as it serves anything."""
        found: list[str] = []
        if self._layout.plan.edge.tls_client_ca:
            self._unlisted = "models are not listed: clients show a certificate (edge.tls_client_ca)"
            return found

        async def some() -> bool:
            answer = await http.get(f"{self._url(EDGE)}/v1/models", timeout_ms=_PROBE_MS)
            if answer.status in (401, 403):
                self._unlisted = "models are not listed: every request needs a key"
                return True
            with contextlib.suppress(msgspec.DecodeError, LookupError, TypeError):
                found.extend(str(model["id"]) for model in msgspec.json.decode(answer.body)["data"])
            return bool(found)

        expected = self._findings or self._layout.simulator
        await self._until(some, "a model", _READY_MS if expected else _STRANGERS_MS)
        return found

    def _passing(self, text: str) -> None:
        """Show progress once it takes longer than anybody likes to look at nothing."""
        if time.monotonic() - self._begun > _PATIENCE_S:
            self._screen.passing(text)

    async def _until(self, asked: Callable[[], Awaitable[bool]], what: str, patience_ms: int) -> bool:
        """Ask again and again, and return whether the answer became yes in time."""
        deadline = time.monotonic() + patience_ms / 1000
        while time.monotonic() < deadline:
            with contextlib.suppress(HttpError):
                if await asked():
                    return True
            self._passing(f"waiting for {what} …")
            await asyncio.sleep(_READY_POLL_S)
        return False

    def _url(self, name: str, member: str = "url") -> str:
        return str(self._layout.children[name].ready[member])

    def _show(self, reasons: str, models: list[str]) -> None:
        screen, layout = self._screen, self._layout
        took = time.monotonic() - self._begun
        screen.line(f"{screen.bold('Headrace is up')} {screen.dim(f'({took:.1f} s)')}")
        screen.line()
        screen.table([*rows(layout, self._findings)])
        screen.line()
        screen.line(f"  configuration  {layout.file}")
        screen.line(f"  logs           {layout.folder}{os.sep}*.log")
        for note in (*(finding.note for finding in self._findings if finding.note), *config.notes(layout.plan)):
            screen.line(f"  note           {note}")
        if not models:
            screen.line(f"  note           {self._unlisted}")
        if reasons:
            screen.line(screen.red(f"  not ready yet  {reasons}"))
        edge = self._url(EDGE)
        model = models[0] if models else "MODEL"
        screen.line()
        screen.line(f"  {screen.bold('open')}  {edge}/")
        screen.line(f"  {screen.bold('curl')}  curl -N {edge}/v1/chat/completions \\")
        screen.line("          -H 'content-type: application/json' -d '{")
        screen.line(f'          "model": "{model}", "stream": true,')
        screen.line('          "messages": [{"role": "user", "content": "Hello"}]}\'')
        url = "" if edge == f"http://127.0.0.1:{PORT_BASE}" else f" --url {edge}"
        screen.line(f'  {screen.bold("chat")}  headrace chat "Hello"{url}')
        screen.line()
        screen.line(screen.dim("  Ctrl-C stops everything."))
