"""`headrace chaos`: the chaos proxy from the command line."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal

from loadtest.chaos.control import Control
from loadtest.chaos.proxy import ChaosProxy
from loadtest.chaos.toxics import ToxicError, parse
from streamkit.ops.command import carry_out
from streamkit.ops.options import Parser, address, free_or_port
from streamkit.ops.signals import handled
from streamkit.wire.address import place

__all__ = ["main"]


def _parser() -> Parser:
    parser = Parser(
        prog="headrace chaos",
        description="Forwards TCP connections and makes them bad: a proxy for tests, between clients and an edge or "
        "between an edge and its engines.",
        epilog="toxics: latency:ms=50,jitter_ms=10  bandwidth:bytes_per_s=10000  slice:bytes=1,gap_ms=2  "
        "stall:after_bytes=4096  reset:after_bytes=4096  half-close:after_bytes=4096  refuse. Each takes "
        "direction=up|down|both (both). The control page lists and changes them while connections are open: "
        'curl -X PUT CONTROL/toxics -d \'[{"toxic": "latency", "ms": 50}]\'',
    )
    parser.add_argument("--listen", type=address, default=("127.0.0.1", 0), metavar="HOST:PORT")
    parser.add_argument("--to", type=address, required=True, metavar="HOST:PORT", help="where connections go")
    parser.add_argument("--toxic", action="append", default=[], metavar="KIND[:KEY=VALUE,…]", help="may be repeated")
    parser.add_argument(
        "--control-port", type=free_or_port, default=0, metavar="N", help="of the control page (a free one)"
    )
    return parser


async def _run(options: argparse.Namespace) -> int:
    toxics = [parse(text) for text in options.toxic]
    listen_host, listen_port = options.listen
    async with contextlib.AsyncExitStack() as stack:
        proxy = ChaosProxy(*options.to, listen_host=listen_host, listen_port=listen_port)
        await stack.enter_async_context(proxy)
        control = await stack.enter_async_context(Control(proxy, options.control_port))
        proxy.set(*toxics)
        over = asyncio.Event()
        stack.enter_context(handled({signal.SIGINT: over.set, signal.SIGTERM: over.set}))
        print(f"{proxy.url} → {place(*options.to)}, control {control.url}; Ctrl-C ends it", flush=True)
        await over.wait()
    return 0


def main(argv: list[str]) -> int:
    """Run the proxy until a signal; 0, or 2 when it cannot be run so."""
    return carry_out(_parser(), argv, lambda options: asyncio.run(_run(options)), refusals=(ToxicError, OSError))
