"""`headrace doctor`: the command line, and what a person or a script sees."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from typing import Final

import msgspec

from launch import config, detect
from launch.doctor import roles
from launch.doctor.checkup import checkup
from launch.doctor.finding import Finding, status_of
from launch.doctor.roles import Roles
from launch.doctor.stun import ServerError, parsed
from launch.screen import Screen
from streamkit.ops import server
from streamkit.ops.command import carry_out
from streamkit.ops.options import Parser

__all__ = ["main"]

_WIDTH: Final = 80
_MARGIN: Final = 8


def main(argv: Sequence[str]) -> int:
    """Check this machine and return the exit status: 0 = nothing fails, 1 = something does, 2 = not to be asked."""
    return carry_out(_parser(), argv, lambda options: server.run(lambda: _main(options)), refusals=(ServerError,))


async def _main(options: argparse.Namespace) -> int:
    found, title = await _roles(options)
    relays = [parsed(uri) for uri in options.turn]
    screen = None if options.json else Screen()
    if screen is not None:
        screen.line(screen.bold(f"headrace doctor: {title}"))
        screen.line()
    findings = []
    async for finding in checkup(found, relays):
        findings.append(finding)
        if screen is not None:
            _draw(screen, finding)
    status = status_of(findings)
    if screen is None:
        document = {"version": 1, "services": list(found.settings), "status": status, "findings": findings}
        print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
    else:
        screen.line()
        screen.line(_sum(findings))
    return status


async def _roles(options: argparse.Namespace) -> tuple[Roles, str]:
    if options.service:
        found = roles.named(options.config, options.service)
        return found, f"{', '.join(options.service)} by {options.config or 'the defaults'}"
    if options.config is not None:
        return roles.all_of(config.load(options.config)), f"all of {options.config}"
    engines = [finding.backend for finding in await detect.find() if finding.backend is not None]
    return roles.all_of(config.of_machine(tuple(engines))), "what headrace up would run here"


def _draw(screen: Screen, finding: Finding) -> None:
    word = {"ok": "ok", "warn": "warn", "fail": screen.red("FAIL"), "skip": screen.dim("skip")}[finding.verdict]
    gap = " " * (_MARGIN - 2 - len({"fail": "FAIL"}.get(finding.verdict, finding.verdict)))
    # A check's name is for scripts; what was seen says what it is about.
    lines = _wrapped(f"{finding.check}: {finding.seen}")
    screen.line(f"  {word}{gap}{lines[0]}")
    for line in lines[1:]:
        screen.line(" " * _MARGIN + line)
    if finding.do:
        for number, line in enumerate(_wrapped(finding.do, 4)):
            screen.line(f"{' ' * _MARGIN}{'do  ' if number == 0 else '    '}{line}")


def _wrapped(text: str, indent: int = 0) -> list[str]:
    return textwrap.wrap(text, _WIDTH - _MARGIN - indent, break_long_words=False, break_on_hyphens=False) or [""]


def _sum(findings: Sequence[Finding]) -> str:
    failed = sum(finding.verdict == "fail" for finding in findings)
    warned = sum(finding.verdict == "warn" for finding in findings)
    if not failed and not warned:
        return f"{len(findings)} checks, nothing to do"
    return f"{len(findings)} checks: {failed} failed, {warned} to look at"


def _parser() -> Parser:
    parser = Parser(
        prog="headrace doctor",
        description="Check what this machine and its neighbours have to have, and say what to do. Nothing is changed."
        " Exit status: 0 = nothing fails, 1 = something does, 2 = it cannot be asked so.",
    )
    parser.add_argument("--config", metavar="FILE", help="a headrace.toml; left out, what headrace up would run")
    parser.add_argument(
        "--service",
        action="append",
        default=[],
        metavar="NAME",
        help="only this service runs here, with its table of the file; may be repeated",
    )
    parser.add_argument(
        "--turn",
        action="append",
        default=[],
        metavar="URI",
        help="a STUN or TURN server to ask: turn:HOST:3478?transport=udp; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead")
    return parser
