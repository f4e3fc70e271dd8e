"""`headrace top`: the figures of a running gateway in the terminal, again and again in one place."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import msgspec

from launch.canvas import Canvas, watched
from launch.figures import Figures, figures
from launch.history import History
from launch.places import Places
from launch.ports import PORT_BASE
from launch.scrapes import Scrape, scrape
from launch.screen import Screen
from launch.top_page import page
from streamkit.ops import server
from streamkit.ops.command import carry_out
from streamkit.ops.http_client import HttpClient, HttpError
from streamkit.ops.options import Parser, free_or_port

__all__ = ["main"]

_NOBODY: Final = 1


def main(arguments: Sequence[str]) -> int:
    """Run the command and return the exit status: 1 = nobody answers."""
    return carry_out(_parser(), arguments, lambda options: server.run(lambda: _run(options)))


def _parser() -> Parser:
    parser = Parser(prog="headrace top", description="Show the figures of a running gateway, over the last minute.")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--ready-file", metavar="PATH", help="of headrace up, or of one service")
    where.add_argument("--url", action="append", metavar="URL", help="an ops address; may be given many times")
    where.add_argument(
        "--port-base",
        type=free_or_port,
        default=PORT_BASE,
        metavar="N",
        help="look where headrace up puts its ops ports (%(default)s)",
    )
    parser.add_argument("--every-ms", type=_millis, default=1_000, metavar="N", help="pause (%(default)s)")
    parser.add_argument("--window-s", type=_seconds, default=60, metavar="N", help="figures cover it (%(default)s)")
    parser.add_argument("--once", action="store_true", help="print once, over all since each process's start")
    parser.add_argument("--json", action="store_true", help="print JSON, a line each time")
    return parser


def _millis(text: str) -> int:
    return _whole(text, 100, 3_600_000)


def _seconds(text: str) -> int:
    return _whole(text, 1, 3_600)


def _whole(text: str, least: int, most: int) -> int:
    if not text.isdecimal() or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, got {text}")
    return int(text)


async def _run(options: argparse.Namespace) -> int:
    """Look once, or until it is ended; return the exit status.

    Raises:
        SettingsError: it is not said where to look.
    """
    places = Places(options.url, options.ready_file, options.port_base)
    screen = Screen()
    if options.json:
        return await _look(options, places, lambda found: print(msgspec.json.encode(found).decode(), flush=True))
    if options.once or not screen.live or os.environ.get("TERM") == "dumb":
        return await _look(options, places, lambda found: screen.line("\n".join(page(found, screen))))
    places.urls()  # whoever is not told where to look shall read that on the screen that he sees

    def look(canvas: Canvas) -> Coroutine[Any, Any, int]:
        return _look(options, places, lambda found: canvas.draw(page(found, screen, canvas.width, keys="q ends")))

    return await watched(look)


async def _look(options: argparse.Namespace, places: Places, show: Callable[[Figures], object]) -> int:
    """Show figures again and again; once if that is asked for, and then return the exit status."""
    history = History(options.window_s)
    async with HttpClient() as http:
        while True:
            urls = places.urls()
            now, silent = await _scrapes(http, urls)
            if options.once and not now:
                print(f"headrace top: nobody answers at {places.said}: is it running?", file=sys.stderr)
                return _NOBODY
            # What answers and is not ours was never expected, an engine of `headrace up` say.
            missed = [url for url in urls if url in history.seen - set(now) or (places.expected and url in silent)]
            show(figures(history.pairs(now), missed))
            if options.once:
                return 0
            history.add(now, time.monotonic())
            await asyncio.sleep(options.every_ms / 1000)


async def _scrapes(http: HttpClient, urls: Sequence[str]) -> tuple[dict[str, Scrape], set[str]]:
    """Return what was said by whoever is ours, by address, and the addresses where nobody answers."""
    silent: set[str] = set()

    async def one(url: str) -> Scrape | None:
        try:
            return await scrape(http, url)
        except HttpError:
            silent.add(url)
            return None

    found = await asyncio.gather(*map(one, urls))
    return {each.url: each for each in found if each is not None}, silent
