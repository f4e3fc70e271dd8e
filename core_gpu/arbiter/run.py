"""Running the arbiter as a process: settings in, exit status out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final

from grpc import aio

from core_gpu.arbiter.arbiter import Arbiter
from core_gpu.arbiter.books import Books
from core_gpu.arbiter.clocks import Clocks
from core_gpu.arbiter.ids import LeaseIds, key_of
from core_gpu.arbiter.inventory import Inventory, InventoryError, StaticInventory
from core_gpu.arbiter.lease import Happening
from core_gpu.arbiter.ledger import Ledger, LedgerError
from core_gpu.arbiter.messages import MAX_MESSAGE_BYTES
from core_gpu.arbiter.meters import Meters, watch
from core_gpu.arbiter.sampler import Checkpointer, Sampler
from core_gpu.arbiter.service import ModelOps
from core_gpu.arbiter.settings import ArbiterSettings
from core_gpu.arbiter.watches import Watches
from core_gpu.arbiter.watching import watching
from core_gpu.modes.settings import Budget
from streamkit.flow.clock import Clock
from streamkit.ops import log
from streamkit.ops.events import EventFeed
from streamkit.ops.grpc_front import GrpcFront, Tls
from streamkit.ops.health import ops_app
from streamkit.ops.lifecycle import Lifecycle
from streamkit.ops.metrics import Metrics
from streamkit.ops.server import Listener, run, serve
from streamkit.ops.settings import SettingsError
from streamkit.wire.backend import Backend
from streamkit.wire.ids import node_name
from streamkit.wire.pb import modelops_pb2_grpc

__all__ = ["inventory_of", "main", "state_dir"]

_EXIT_FAILED: Final = 1
_EXIT_SETTINGS: Final = 2
_TICK_S: Final = 0.05


def main(
    settings: ArbiterSettings,
    backends: Sequence[Backend] = (),
    budgets: Sequence[Budget] = (),
    *,
    ready_file: str | None = None,
) -> int:
    """Run the arbiter until a signal ends it, and return the exit status.

    0 = stopped as asked; 1 = the GPUs or the ledger cannot be used; 2 = the settings or the address cannot.

    Args:
        settings: the arbiter's own.
        backends: all that are configured; those of this host are watched.
        budgets: of this host.
        ready_file: written once it answers, removed at the end.
    """
    log.configure("arbiter")
    try:
        tls = Tls.from_files(
            settings.host, settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file
        )
    except SettingsError as error:
        return _say(error, _EXIT_SETTINGS)
    try:
        with contextlib.ExitStack() as stack:
            inventory = inventory_of(settings)
            stack.callback(inventory.close)
            folder = state_dir(settings)
            ledger = Ledger(folder, Clocks.system(), max_bytes=settings.ledger_max_bytes)
            stack.callback(ledger.close)
            books = Books(
                devices=inventory.devices(), measures=inventory.measures, ledger=ledger,
                ids=LeaseIds(key_of(folder / "lease-ids.key")), terms=settings.terms(), alive=_alive,
            )  # fmt: skip
            return run(lambda: _serve(settings, tls, inventory, ledger, books, backends, budgets, ready_file))
    except (InventoryError, LedgerError) as error:
        return _say(error, _EXIT_FAILED)


def inventory_of(settings: ArbiterSettings) -> Inventory:
    """Return the inventory that the settings ask for.

    Raises:
        InventoryError: NVIDIA's driver is asked for and does not answer.
    """
    if settings.inventory != "static":
        from core_gpu.arbiter.nvml import NvmlInventory  # noqa: PLC0415  a host without GPUs loads no driver

        try:
            return NvmlInventory()
        except InventoryError:
            if settings.inventory == "nvml":
                raise
    return StaticInventory(settings.static_gpus_mb)


def state_dir(settings: ArbiterSettings) -> Path:
    """Return where the ledger lies."""
    if settings.state_dir:
        return Path(settings.state_dir)
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "headrace" / "arbiter"


def _say(error: Exception, status: int) -> int:
    print(f"arbiter: {error}", file=sys.stderr)  # noqa: T201  it must be seen under any log level
    return status


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


async def _serve(
    settings: ArbiterSettings,
    tls: Tls | None,
    inventory: Inventory,
    ledger: Ledger,
    books: Books,
    backends: Sequence[Backend],
    budgets: Sequence[Budget],
    ready_file: str | None,
) -> int:
    lifecycle = Lifecycle(settle_ms=settings.settle_ms, drain_ms=settings.drain_ms)
    feed = EventFeed()
    metrics = Metrics()
    meters = Meters(metrics)
    watches = Watches(settings.max_watches)
    monotonic = Clocks.system().monotonic
    arbiter = Arbiter(books, monotonic, on_startup=_to_feed(feed))
    host = settings.node or node_name()
    books.hooks += [watches.tell, meters.happened, _published(feed, host, monotonic)]
    watch(metrics, arbiter, lambda: ledger.log_bytes)
    arbiter.restore(ledger)
    # Whoever counts by these events learns which of the leases that it knows are over.
    feed.publish("lease.restored", {"host": host, "leases": [lease[:8] for lease in books.leases]})
    service = ModelOps(arbiter, settings, inventory.kind, watches, meters)
    lifecycle.on_drain += [arbiter.drain, watches.close]

    def add(server: aio.Server) -> None:
        modelops_pb2_grpc.add_ModelOpsServicer_to_server(service, server)

    working = contextlib.AsyncExitStack()

    async def begin() -> None:
        await working.enter_async_context(_working(settings, inventory, ledger, arbiter))
        await working.enter_async_context(watching(settings, arbiter, backends, budgets, metrics=metrics, feed=feed))

    return await serve(
        name="arbiter",
        kind="arbiter",
        public=GrpcFront(
            add,
            lifecycle,
            host=settings.host,
            port=settings.port,
            tls=tls,
            max_calls=settings.max_waiting + settings.max_watches + 4_096,
            max_message_bytes=MAX_MESSAGE_BYTES,
            # It would send a ping with each call to learn how much a connection carries; messages here are tiny.
            options=[("grpc.http2.bdp_probe", 0)],
            on_start=begin,
            on_stop=working.aclose,
        ),
        ops=Listener(
            app=ops_app(lifecycle, metrics=metrics.exposition, checks={"gpus": _measured(arbiter)}, feed=feed),
            host=settings.ops_host,
            port=settings.ops_port,
        ),
        lifecycle=lifecycle,
        ready_file=ready_file,
        ready_extra={"inventory": inventory.kind, "gpus": len(books.accounts)},
    )


@contextlib.asynccontextmanager
async def _working(
    settings: ArbiterSettings, inventory: Inventory, ledger: Ledger, arbiter: Arbiter
) -> AsyncIterator[None]:
    """Measure, keep the ledger's log short and do what is due, for the length of the block."""
    sampler = Sampler(inventory, settings.snapshot_ms / 1000, arbiter.measured)
    checkpointer = Checkpointer(ledger)
    await sampler.start()
    checkpointer.start()
    ticking = asyncio.create_task(_tick(arbiter, ledger), name="tick")
    try:
        yield
    finally:
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)
        await sampler.stop()
        await checkpointer.stop()


async def _tick(arbiter: Arbiter, ledger: Ledger) -> None:
    while True:
        await asyncio.sleep(_TICK_S)
        arbiter.tick()
        ledger.shorten()


def _measured(arbiter: Arbiter) -> Callable[[], str | None]:
    def check() -> str | None:
        now = arbiter.clock()
        stale = [
            str(account.device.index)
            for account in arbiter.books.accounts.values()
            if not arbiter.books.fresh(account, now)
        ]
        return f"not measured lately: GPU {', '.join(stale)}" if stale else None

    return check


def _to_feed(feed: EventFeed) -> Callable[[str, tuple[str, ...], str], None]:
    def told(client: str, gpus: tuple[str, ...], outcome: str) -> None:
        feed.publish("startup", {"client": client, "gpus": gpus, "outcome": outcome})

    return told


def _published(feed: EventFeed, host: str, monotonic: Clock) -> Callable[[Happening], None]:
    def happened(happening: Happening) -> None:
        lease = happening.lease
        feed.publish(
            f"lease.{happening.name.replace(' ', '_')}",
            {
                "host": host, "lease": lease.id[:8], "client": lease.client, "model": lease.model, "gpu": lease.gpu,
                "reserved_mb": lease.reserved_mb, "priority": lease.priority, "state": happening.state.name,
                "why": happening.reason, "sequence": happening.sequence,
                "held_s": round(max(0.0, monotonic() - lease.granted_s), 3),
            },
        )  # fmt: skip

    return happened
