"""`headrace bench avatar`: what a face costs: its inference on a CPU, its sound, its pictures."""

from __future__ import annotations

import argparse
import asyncio
from typing import Final

import grpc
import msgspec

from loadtest.avatar import audio, faces, files, inference, link, several
from loadtest.avatar.audio import Sound
from loadtest.avatar.faces import Load, Picture
from loadtest.avatar.files import Hop, Still
from loadtest.avatar.inference import MESSAGES, Encoded, Rate
from loadtest.avatar.link import Link
from loadtest.avatar.several import Several
from loadtest.launched import service
from loadtest.relay.machine import UnfitError, facts
from loadtest.relay.runs import Machine
from loadtest.reported import Place, add_options, report, say
from streamkit.ops.options import Parser

__all__ = ["main"]

SCHEMA: Final = "headrace.bench.avatar/1"
_BATCHES: Final = (1, 4, 16)
_DEVICE: Final = "CPU, one core"
_SECONDS_MAX: Final = 600


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was measured."""

    schema: str = SCHEMA
    machine: Machine
    #: One worker with one thread, on one core.
    inference: list[Rate]
    #: The same worker with several models.
    several: Several
    encodings: list[Encoded]
    #: For each second of speech, on the load side's core.
    audio: Sound
    #: From the compositor to the inference server and back; then with messages as the blueprint has them.
    hop: Hop
    raw_hop: Hop
    link: list[Link]
    #: A speaking face, its compositor on one core with one thread.
    pictures: list[Picture]
    stills: list[Still]
    #: What the compositor's process takes for sessions that idle, and that speak.
    sessions: list[Load]


def main(argv: list[str]) -> int:
    """Run the benchmark and print JSON; 0 when it ran, 1 when the server failed, 2 for wrong arguments."""
    return report(_parser(), argv, _measure, failures=(grpc.RpcError,))


def _parser() -> Parser:
    parser = Parser(
        prog="headrace bench avatar",
        description="Runs the unet_328-cost model on one core through a real inference server, and weighs a frame in"
        " each encoding; figures stand beside the blueprint's for a GPU as ratios. The same with several models in"
        " turns, and with one too many. Then what a second of speech costs: resampling, mels, Opus, the way to the"
        " encoder, as parts of real time. Then a speaking face, through a real compositor: drawing, encoding,"
        " likeness, lateness, files, and what a core carries. Prints JSON.",
    )
    parser.add_argument("--quick", action="store_true", help="a short run: does it work?")
    parser.add_argument("--seconds", type=float, metavar="S", help="of each batch size (20; quick: 1)")
    add_options(parser)
    return parser


def _measure(options: argparse.Namespace, place: Place) -> Report:
    quick, folder, load_cpu, cpus = options.quick, place.folder, place.load_cpu, {place.server_cpu}
    of_a_batch_s = options.seconds if options.seconds is not None else 1.0 if quick else 20.0
    if not 0 < of_a_batch_s <= _SECONDS_MAX:
        raise UnfitError(f"--seconds is above 0 and at most {_SECONDS_MAX}, got {of_a_batch_s:g}")
    with service("inference", "[inference]\nworkers_per_gpu = 1\nthreads_per_worker = 1\n", folder, cpus) as server:
        with grpc.insecure_channel(server.address, options=MESSAGES) as channel:
            rates = []
            for batch in _BATCHES[:1] if quick else _BATCHES:
                say(f"unet_328-cost model on the CPU, batches of {batch} …")
                rates.append(inference.rate(channel, batch=batch, seconds=of_a_batch_s, device=_DEVICE))
            say("encodings …")
            encodings = inference.encodings(channel)
            say("the way of a mouth …")
            way, raw = (files.hop(channel, 50 if quick else 500, raw=raw) for raw in (False, True))
        say("sound …")
        seconds, runs = (2.0, 1) if quick else (10.0, 5)
        sound = audio.sound(server.address, seconds=seconds, runs=runs, cpu=load_cpu)
    say("several models …")
    seconds, rounds = (0.5, 1) if quick else (6.0, 5)
    models = several.several(folder, cpus, seconds=seconds, rounds=rounds, device=_DEVICE)
    # An inference server again, now beside the load: the compositor has the other core for itself.
    with (
        service("inference", "[inference]\n", folder, {load_cpu}) as mouths,
        service("compositor", faces.configuration(), folder, cpus, "--inference", mouths.address) as server,
    ):
        say("pictures …")
        pictures = asyncio.run(faces.pictures(server.address, 2.0 if quick else 8.0, sizes=1 if quick else 3))
        say("files …")
        stills = files.stills(server.address, 5 if quick else 50)
        say("sessions …")
        idle, speaking = (4, 1) if quick else (40, 5)
        seconds, settle_s = (1.0, 1.0) if quick else (10.0, 5.0)
        loads = asyncio.run(
            faces.loads(server.address, server.pid, seconds, idle=idle, speaking=speaking, settle_s=settle_s)
        )
    return Report(
        machine=facts(),
        inference=rates,
        several=models,
        encodings=encodings,
        audio=sound,
        hop=way,
        raw_hop=raw,
        link=link.links(raw, encodings),
        pictures=pictures,
        stills=stills,
        sessions=loads,
    )
