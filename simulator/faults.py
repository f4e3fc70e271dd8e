"""What can be wrong with a whole server: `headrace simulate --fault …` and `POST /sim/fault`.

A fault is a name from `NAMED`, `latency+<N>ms`, or clauses in the `X-Sim` grammar; a request's own `X-Sim`
overrides it key by key. `/sim/*` itself is never at fault, so that a sick simulator can be healed.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from simulator.directives import Directives, parse

__all__ = ["HEALTHY", "NAMED", "Fault", "parse_fault"]

_LATENCY = re.compile(r"latency\+(\d+)ms")


class Fault(msgspec.Struct, kw_only=True, frozen=True):
    """How a sick server differs from a healthy one."""

    #: As it was asked for; None on a healthy server.
    name: str | None = None
    #: What every generating request starts from.
    directives: Directives = Directives()
    #: `/health` and `/ping` answer 503.
    unhealthy: bool = False
    #: Every request's connection is reset without an answer.
    refuse: bool = False


HEALTHY: Final = Fault()

NAMED: Final[dict[str, Fault]] = {
    "refuse": Fault(refuse=True, unhealthy=True),
    "slow": Fault(directives=Directives(ttft_ms=2000.0, itl_ms=250.0)),
    # A frozen engine core: headers leave, no token follows, /health stays 200 (behaviour.txt `[stop_core]`).
    "stall": Fault(directives=Directives(stall_after=0)),
    "stall-mid": Fault(directives=Directives(stall_after=5)),
    "silent": Fault(directives=Directives(stall_headers=True)),
    "die": Fault(directives=Directives(die_after=5)),
    # SIGKILL of the API process: end of file without the last chunk (behaviour.txt `[kill_api]`).
    "eof": Fault(directives=Directives(eof_after=5)),
    "truncate": Fault(directives=Directives(end_after=5)),
    "error500": Fault(directives=Directives(status=500)),
    "busy": Fault(directives=Directives(status=503)),
    # The core process dies: error frame and [DONE] (behaviour.txt `[kill_core]`).
    "crash": Fault(directives=Directives(error_after=5)),
    "garbage": Fault(directives=Directives(garbage="json")),
    "unhealthy": Fault(directives=Directives(status=503), unhealthy=True),
}


def parse_fault(text: str | None, *, name: str = "") -> Fault:
    """Return the fault that `text` asks for; None, "" and "none" mean a healthy server.

    Args:
        text: a name, `latency+<N>ms`, or `X-Sim` clauses.
        name: the simulator's name, for `@name` selectors.

    Raises:
        ValueError: it is neither; the message lists what there is.
    """
    if text is None or text in ("", "none"):
        return HEALTHY
    if text in NAMED:
        return msgspec.structs.replace(NAMED[text], name=text)
    if match := _LATENCY.fullmatch(text):
        return Fault(name=text, directives=Directives(latency_ms=float(match[1])))
    if "=" in text:
        return Fault(name=text, directives=parse(text, name=name))
    known = ", ".join(sorted(NAMED))
    raise ValueError(f"unknown fault {text!r}; there are {known}, latency+<N>ms, and X-Sim clauses (key=value,…)")
