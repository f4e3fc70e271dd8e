"""`headrace leases`: who holds which GPU's memory, giving a lease back for somebody, and watching it all."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from launch.canvas import watched
from launch.screen import Screen
from launch.services import missing_extra
from streamkit.ops.command import carry_out
from streamkit.ops.options import Parser
from streamkit.ops.settings import SettingsError

if TYPE_CHECKING:
    from streamkit.wire.pb import modelops_pb2 as pb
    from streamkit.wire.pb.modelops_pb2_grpc import ModelOpsStub

__all__ = ["main", "render"]

#: Where an arbiter listens: beside the services of `headrace up`, and started alone.
_PLACES: Final = ("127.0.0.1:7451", "127.0.0.1:50051")
_CALL_S: Final = 5.0
_BAR: Final = 24
_WIDTH: Final = 80
_SHORT: Final = 12


def main(arguments: Sequence[str]) -> int:
    """Run the command and return the exit status: 1 = no such lease, 2 = the arbiter cannot be asked."""
    return carry_out(_parser(), arguments, _run)


def _run(options: argparse.Namespace) -> int:
    try:
        import grpc  # noqa: PLC0415  only this command needs it
    except ModuleNotFoundError as error:
        raise missing_extra(error, "arbiter") from None
    try:
        with _stub(options) as stub:
            if options.what == "release":
                return _release(stub, options.lease)
            if options.what == "watch":
                return asyncio.run(_watch(stub, options.every_ms / 1000))
            return _list(stub, as_json=options.json)
    except grpc.RpcError as error:
        details = getattr(error, "details", None)
        raise SettingsError(f"the arbiter does not answer: {details() if callable(details) else error}") from None


def _parser() -> Parser:
    parser = Parser(prog="headrace leases", description="Show GPU leases, or give one back for its holder.")
    parser.add_argument("--address", metavar="HOST:PORT", help=f"the arbiter's ({' or '.join(_PLACES)})")
    for name, what in (("ca", "the arbiter's authority"), ("cert", "our certificate"), ("key", "its key")):
        parser.add_argument(f"--{name}", type=Path, metavar="FILE", help=f"mutual TLS: {what}, as PEM")
    parser.add_argument("--json", action="store_true", help="print JSON")
    commands = parser.add_subparsers(dest="what", metavar="list | release ID | watch")
    commands.add_parser("list", description="Show all leases.")
    release = commands.add_parser("release", description="Give a lease back for its holder, who is told.")
    release.add_argument("lease", metavar="ID", help="a lease's id, or its beginning")
    watch = commands.add_parser("watch", description="Show all leases again and again.")
    watch.add_argument("--every-ms", type=int, default=1_000, metavar="N", help="pause (%(default)s)")
    return parser


@contextlib.contextmanager
def _stub(options: argparse.Namespace) -> Iterator[ModelOpsStub]:
    import grpc  # noqa: PLC0415  only this command needs it

    from core_gpu.lease_client.words import ClientTls  # noqa: PLC0415  as above
    from streamkit.wire.pb.modelops_pb2_grpc import ModelOpsStub  # noqa: PLC0415  as above

    files = (options.ca, options.cert, options.key)
    if any(files) and not all(files):
        raise SettingsError("--ca, --cert and --key: mutual TLS needs all three")
    credentials = None
    if all(files):
        try:
            credentials = ClientTls(*files).credentials()
        except OSError as error:
            raise SettingsError(f"{error.filename}: cannot be read: {error.strerror}") from None
    places = (options.address,) if options.address else _PLACES
    for place in places:
        channel = grpc.insecure_channel(place) if credentials is None else grpc.secure_channel(place, credentials)
        with channel:
            try:
                grpc.channel_ready_future(channel).result(timeout=_CALL_S if options.address else 1.0)
            except grpc.FutureTimeoutError:
                continue
            yield ModelOpsStub(channel)
            return
    raise SettingsError(f"no arbiter answers at {' or '.join(places)}: is it running? --address says where else")


def _list(stub: ModelOpsStub, *, as_json: bool) -> int:
    state, leases = _read(stub)
    if as_json:
        from google.protobuf.json_format import MessageToDict  # noqa: PLC0415  only this option needs it

        found = {
            "state": MessageToDict(state, preserving_proto_field_name=True),
            "leases": [MessageToDict(lease, preserving_proto_field_name=True) for lease in leases],
        }
        print(json.dumps(found, indent=2))
        return 0
    screen = Screen()
    for line in render(state, leases, screen, shutil.get_terminal_size().columns if screen.live else _WIDTH):
        screen.line(line)
    return 0


async def _watch(stub: ModelOpsStub, every_s: float) -> int:
    screen = Screen()

    async def again(show: Callable[[list[str]], object], width: Callable[[], int] = lambda: _WIDTH) -> int:
        while True:
            show(render(*await asyncio.to_thread(_read, stub), screen, width()))
            await asyncio.sleep(max(0.1, every_s))

    if not screen.live or os.environ.get("TERM") == "dumb":
        return await again(lambda lines: screen.line("\n".join(lines)))
    head = f"{screen.bold('headrace leases')}  {screen.dim('q ends')}"
    return await watched(lambda canvas: again(lambda lines: canvas.draw([head, "", *lines]), lambda: canvas.width))


def _release(stub: ModelOpsStub, asked: str) -> int:
    from streamkit.wire.pb import modelops_pb2 as pb  # noqa: PLC0415  only this command needs it

    _, leases = _read(stub)
    found = [lease for lease in leases if lease.lease_id.startswith(asked)]
    if len(found) != 1:
        what = "no lease begins" if not found else f"{len(found)} leases begin"
        print(f"headrace leases: {what} with {asked!r}; headrace leases shows them", file=sys.stderr)
        return 1
    (lease,) = found
    stub.ReleaseGpuLease(pb.GpuLeaseRelease(lease_id=lease.lease_id), timeout=_CALL_S)
    print(f"released {lease.vram_reserved_mb:,} MiB of {_holder(lease)}; it is told at its next renewal")
    return 0


def _read(stub: ModelOpsStub) -> tuple[pb.ArbiterState, list[pb.Lease]]:
    from streamkit.wire.pb import modelops_pb2 as pb  # noqa: PLC0415  only this command needs it

    state = stub.GetState(pb.GetStateRequest(), timeout=_CALL_S)
    leases = stub.ListLeases(pb.ListLeasesRequest(), timeout=_CALL_S).leases
    return state, sorted(leases, key=lambda lease: (lease.gpu_index, -lease.vram_reserved_mb))


def render(state: pb.ArbiterState, leases: Sequence[pb.Lease], screen: Screen, width: int = _WIDTH) -> list[str]:
    """Return the lines of the page, none wider than the columns that there are, or 80.

    Args:
        state: of the GPUs.
        leases: in the order to show.
        screen: paints.
        width: columns; holders' names are cut to them.
    """
    width = max(_WIDTH, width)
    lines: list[str] = []
    for gpu in state.gpus:
        taken = gpu.used_mb + gpu.pending_mb
        used, pending = (round(_BAR * part / max(1, gpu.total_mb)) for part in (gpu.used_mb, gpu.pending_mb))
        bar = "█" * min(_BAR, used) + "▒" * min(_BAR - min(_BAR, used), pending)
        words = f"{taken:,} of {gpu.cap_mb:,} MiB to lend, {gpu.free_mb:,} free"
        if gpu.stale:
            words = "not measured lately: nothing is granted"
        elif gpu.startup_client:
            words = f"{gpu.startup_client} is starting: nothing is granted"
        lines.append(f"  {screen.bold(f'GPU {gpu.gpu_index}')}  {bar:░<{_BAR}}  {words}"[: width + 20])
        if gpu.unleased_mb:
            lines.append(screen.red(f"         {gpu.unleased_mb:,} MiB are used without a lease"))
    lines.append("")
    if not leases:
        lines.append("  no leases")
    else:
        heads = ("LEASE", "HOLDER", "GPU", "MiB", "USED", "PRIO", "STATE", "LEFT")
        rows = [_row(lease) for lease in leases]
        wide = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
        # The holder's name gives way where the line would be too long.
        wide[1] = min(wide[1], width - 2 - 2 * (len(heads) - 1) - (sum(wide) - wide[1]))
        lines.append("  " + screen.dim(_joined(heads, wide)))
        lines += ["  " + _joined(row, wide) for row in rows]
    if state.waiting:
        lines += ["", f"  {state.waiting} waiting in line"]
    return lines


def _row(lease: pb.Lease) -> tuple[str, ...]:
    from streamkit.wire.pb import modelops_pb2 as pb  # noqa: PLC0415  only this command needs it

    used = f"{lease.vram_used_mb:,}" if lease.measured or lease.loaded else "?"
    name = pb.LeaseState.Name(lease.state).removeprefix("LEASE_STATE_").lower()
    return (
        lease.lease_id[:_SHORT], _holder(lease), str(lease.gpu_index), f"{lease.vram_reserved_mb:,}", used,
        str(lease.priority), name, f"{lease.expires_in_ms / 1000:.0f} s",
    )  # fmt: skip


def _holder(lease: pb.Lease) -> str:
    return f"{lease.client}/{lease.model_name}" if lease.model_name else lease.client or "(no name)"


def _joined(cells: Sequence[str], wide: Sequence[int]) -> str:
    shown = []
    for place, (cell, width) in enumerate(zip(cells, wide, strict=True)):
        cut = cell if len(cell) <= width else cell[: width - 1] + "…"
        shown.append(f"{cut:>{width}}" if place in (3, 4, 5, 7) else f"{cut:{width}}")
    return "  ".join(shown).rstrip()
