"""The `headrace` command."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Sequence
from typing import Final

from launch.options import Parser, free_or_port
from streamkit.ops.settings import SettingsError

__all__ = ["main"]

_HELP: Final = """\
usage: headrace COMMAND [options]

A streaming gateway for people who run their own GPU host.

start here
  up              everything on this machine, with its engines or a simulator
  chat "Hello"    stream an answer to this terminal
  check FILE      say what a configuration would run, or what is wrong with it

one service at a time
  edge            the public face: holds every client's stream
  control         knows the backends and says where to go
  simulate        a stand-in for a vLLM server

measure
  bench relay     us and every peer on this machine, against the same backend

options
  --version       print the version
  --help          print this; headrace COMMAND --help has the options
"""
_STATUS_USAGE: Final = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status; 2 = it cannot be done as asked."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_HELP, end="", file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else _STATUS_USAGE
    if arguments[0] == "bench":
        return _bench(arguments[1:])
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else _STATUS_USAGE
    module, _, function = options.run.partition(":")
    run: Callable[[argparse.Namespace], int] = getattr(importlib.import_module(module), function)
    try:
        return run(options)
    except SettingsError as error:
        print(f"headrace {options.command}: {error}", file=sys.stderr)
        return _STATUS_USAGE
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output left; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _bench(arguments: list[str]) -> int:
    if not arguments or arguments[0] != "relay":
        asked = f'no benchmark "{arguments[0]}"' if arguments else "missing: which benchmark"
        if arguments[:1] in (["-h"], ["--help"]):
            print("usage: headrace bench relay [options]; headrace bench relay --help has them")
            return 0
        print(f"headrace bench: {asked}; there is: relay", file=sys.stderr)
        return _STATUS_USAGE
    from loadtest.relay.cli import main as relay  # noqa: PLC0415  a service loads only itself

    return relay(arguments[1:])


def _parser() -> Parser:
    parser = Parser(prog="headrace", add_help=False)
    parser.add_argument("--version", action="version", version=f"headrace {importlib.metadata.version('headrace')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    up = commands.add_parser("up", help="", description="Start everything on this machine.")
    up.set_defaults(run="launch.up:up")
    up.add_argument("--config", metavar="FILE", help="run what this file names, and nothing else")
    up.add_argument(
        "--port-base",
        type=free_or_port,
        metavar="N",
        help="count all ports from here (7400); 0 = free ports everywhere",
    )
    up.add_argument("--edge-port", type=free_or_port, metavar="N", help="another port for the edge alone")
    up.add_argument("--no-avatar", action="store_true", help="start no avatar services")
    _ready_file(up)

    edge = commands.add_parser("edge", description="Run the edge in the foreground.")
    edge.set_defaults(run="launch.services:edge")
    _service(edge, ops=True)
    edge.add_argument("--control-url", metavar="URL", help="where control answers")

    control = commands.add_parser("control", description="Run control in the foreground.")
    control.set_defaults(run="launch.services:control")
    _service(control, ops=True)

    simulate = commands.add_parser("simulate", description="Run a simulated vLLM server in the foreground.")
    simulate.set_defaults(run="launch.services:simulate")
    _service(simulate, ops=False)
    simulate.add_argument("--name", help="its name among simulators")
    simulate.add_argument("--fault", help="something that is wrong with it from the start")

    check = commands.add_parser("check", description="Validate a configuration without running it.")
    check.set_defaults(run="launch.check:check")
    check.add_argument("file", metavar="FILE", help="a headrace.toml")

    chat = commands.add_parser(
        "chat",
        description="Stream one answer to this terminal. A key is read from HEADRACE_API_KEY.",
    )
    chat.set_defaults(run="launch.chat:chat")
    chat.add_argument("prompt", metavar="PROMPT", help="what to say; - reads it from standard input")
    chat.add_argument(
        "--url", default="http://127.0.0.1:7400", help="the edge's address (%(default)s)", metavar="URL"
    )
    chat.add_argument("--model", metavar="NAME", help="the first one that is served")
    chat.add_argument("--json", action="store_true", help="print one JSON object at the end instead")
    return parser


def _service(parser: argparse.ArgumentParser, *, ops: bool) -> None:
    parser.add_argument("--config", metavar="FILE", help="a headrace.toml; only this service's part is used")
    parser.add_argument("--host", metavar="ADDRESS", help="address to listen on (loopback)")
    parser.add_argument("--port", type=free_or_port, metavar="N", help="port to listen on; 0 = a free one")
    if ops:
        parser.add_argument("--ops-port", type=free_or_port, metavar="N", help="port for health and metrics")
    _ready_file(parser)


def _ready_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ready-file", metavar="PATH", help="written as JSON once it answers")
    # A service that `up` started ends when `up` does, however that ends; tests do the same with `up`.
    parser.add_argument("--leave-with", type=int, metavar="PID", help=argparse.SUPPRESS)
