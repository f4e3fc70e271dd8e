"""The `headrace` command."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import sys
from collections.abc import Callable, Sequence
from typing import Final

from launch import plan
from streamkit.ops.command import USAGE, carry_out
from streamkit.ops.options import Parser, descriptors, free_or_port, new_file

__all__ = ["main"]

_HELP: Final = """\
usage: headrace COMMAND [options]

A streaming gateway for people who run their own GPU host.

start here
  up              everything on this machine, with its engines or a simulator
  chat "Hello"    stream an answer to this terminal
  check FILE      say what a configuration would run, or what is wrong with it
  doctor          say what is wrong with this machine, and what to do

one service at a time
  edge            the public face: holds every client's stream
  control         knows the backends and says where to go
  arbiter         lends the GPUs' memory to whoever asks first
  arbiter run     start an engine under a lease, behind the start-up barrier
  inference       mouth regions for avatars, from audio and pictures
  observe         keeps events, counts usage, probes and heals
  compositor      talking faces as video, from text or sound
  simulate        a stand-in for vLLM, Ollama, llama-server, TensorFlow Serving

who may ask
  keys            make, list and revoke keys; set tenants' limits
  backup FOLDER   copy keys, the ledger and what was used, while they are in use

what happened
  events          follow the events of all sites
  trace ID        one stream's life as a picture
  usage           tokens and GPU time by key, tenant and model
  observe config  the NATS server's configuration for a site, or the hub

GPU memory
  leases          who holds what; release one; watch

look
  top             latencies, streams, queues and GPU memory, in this terminal
  metrics         every metric; a configuration for Prometheus

measure
  bench lease     what a GPU lease costs, against the real arbiter
  plan vram       whether a model fits a card, and the nearest that does
  plan capacity   what a fleet carries and costs
  plan modes      flags and environment of engines that share GPUs
  bench relay     us and every peer on this machine, against the same backend
  bench avatar    frames a second of inference, and a frame's bytes
  bench viewers   what each further viewer of a face costs an edge
  bench talk      how soon a face is there, answers, and is quiet again
  bench slow      what slow readers cost memory and everybody else
  conform URL     a conformance suite for anybody's streaming gateway
  chaos           a TCP proxy that makes connections bad, while they are open

options
  --version       print the version
  --help          print this; headrace COMMAND --help has the options
"""
#: Each has a command line of its own: `main(arguments) -> status`. A service loads only itself.
_OWN_LINES: Final = {
    "backup": "launch.backup",
    "chaos": "loadtest.chaos.cli",
    "conform": "loadtest.conform.cli",
    "doctor": "launch.doctor.cli",
    "keys": "launch.keys",
    "events": "launch.events",
    "leases": "launch.leases",
    "metrics": "launch.metrics",
    "top": "launch.top",
    "trace": "launch.trace",
    "usage": "launch.usage",
}
_BENCHES: Final = {
    "relay": "loadtest.relay.cli",
    "slow": "loadtest.slow.cli",
    "lease": "loadtest.lease.cli",
    "avatar": "loadtest.avatar.cli",
    "viewers": "loadtest.viewers.cli",
    "talk": "loadtest.talk.cli",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status; 2 = it cannot be done as asked."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_HELP, end="", file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else USAGE
    if arguments[0] == "bench":
        return _bench(arguments[1:])
    if arguments[0] in _OWN_LINES:
        return int(importlib.import_module(_OWN_LINES[arguments[0]]).main(arguments[1:]))
    if arguments[:2] == ["arbiter", "run"]:
        return int(importlib.import_module("launch.arbiter_run").main(arguments[2:]))
    if arguments[:2] == ["observe", "config"]:
        return int(importlib.import_module("launch.observe_config").main(arguments[2:]))
    return carry_out(_parser(), arguments, _run, named=lambda options: f"headrace {options.command}")


def _run(options: argparse.Namespace) -> int:
    module, _, function = options.run.partition(":")
    run: Callable[[argparse.Namespace], int] = getattr(importlib.import_module(module), function)
    return run(options)


def _bench(arguments: list[str]) -> int:
    names = ", ".join(_BENCHES)
    if not arguments or arguments[0] not in _BENCHES:
        if arguments[:1] in (["-h"], ["--help"]):
            print(f"usage: headrace bench NAME [options]; headrace bench NAME --help has them\nthere is: {names}")
            return 0
        asked = f'no benchmark "{arguments[0]}"' if arguments else "missing: which benchmark"
        print(f"headrace bench: {asked}; there is: {names}", file=sys.stderr)
        return USAGE
    module = importlib.import_module(_BENCHES[arguments[0]])
    return int(module.main(arguments[1:]))


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
    edge.add_argument("--workers", type=int, metavar="N", help="processes that share the port; SIGHUP replaces them")
    # One of several workers; its supervisor says so.
    edge.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    for option in ("--fds", "--ops-fds"):
        edge.add_argument(option, type=descriptors, default=(), help=argparse.SUPPRESS)

    control = commands.add_parser("control", description="Run control in the foreground.")
    control.set_defaults(run="launch.services:control")
    _service(control, ops=True)

    arbiter = commands.add_parser("arbiter", description="Run the GPU arbiter in the foreground.")
    arbiter.set_defaults(run="launch.services:arbiter")
    _service(arbiter, ops=True)
    arbiter.add_argument("--inventory", metavar="KIND", help="where GPUs come from: auto, nvml or static")
    arbiter.add_argument("--state-dir", metavar="FOLDER", help="where its ledger lies")

    inference = commands.add_parser("inference", description="Run the inference server in the foreground.")
    inference.set_defaults(run="launch.services:inference")
    _service(inference, ops=True, file="a headrace.toml, or the config.yaml of the Go inference server")

    compositor = commands.add_parser("compositor", description="Run the avatars' compositor in the foreground.")
    compositor.set_defaults(run="launch.services:compositor")
    _service(compositor, ops=True)
    compositor.add_argument("--inference", metavar="HOST:PORT", help="where the inference server answers")

    observe = commands.add_parser("observe", description="Run the observability centre in the foreground.")
    observe.set_defaults(run="launch.services:observe")
    _service(observe, ops=True)
    observe.add_argument("--role", help="edge = beside one site; central = at the hub")
    observe.add_argument("--site", metavar="NAME", help="this site's name")
    observe.add_argument("--nats-url", metavar="URL", help="the NATS server beside it")
    observe.add_argument("--state-dir", metavar="FOLDER", help="for what was read and used")

    simulate = commands.add_parser("simulate", description="Run a simulated engine in the foreground.")
    simulate.set_defaults(run="launch.services:simulate")
    _service(simulate, ops=False)
    simulate.add_argument("--engine", help="vllm, ollama, llama-server or tfserving (vllm)")
    simulate.add_argument("--grpc-port", type=free_or_port, metavar="N", help="tfserving: for predictions")
    simulate.add_argument("--name", help="its name among simulators")
    simulate.add_argument("--fault", help="something that is wrong with it from the start")

    check = commands.add_parser("check", description="Validate a configuration without running it.")
    check.set_defaults(run="launch.check:check")
    check.add_argument("file", metavar="FILE", help="a headrace.toml")
    check.add_argument(
        "--service",
        action="append",
        default=[],
        metavar="NAME",
        help="only this service runs there, with its table of the file; may be repeated",
    )

    plan.add(commands)

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


def _service(
    parser: argparse.ArgumentParser, *, ops: bool, file: str = "a headrace.toml; only this service's part is used"
) -> None:
    parser.add_argument("--config", metavar="FILE", help=file)
    parser.add_argument("--host", metavar="ADDRESS", help="address to listen on (loopback)")
    parser.add_argument("--port", type=free_or_port, metavar="N", help="port to listen on; 0 = a free one")
    if ops:
        parser.add_argument("--ops-port", type=free_or_port, metavar="N", help="port for health and metrics")
    _ready_file(parser)


def _ready_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ready-file", type=new_file, metavar="PATH", help="written as JSON once it answers")
    # A service that `up` started ends when `up` does, however that ends; tests do the same with `up`.
    parser.add_argument("--leave-with", type=int, metavar="PID", help=argparse.SUPPRESS)
