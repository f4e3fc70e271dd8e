"""Running cases: several at a time, those that measure time alone and last."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final

import msgspec

from loadtest.conform import cases
from loadtest.conform.case import CASES, Case, Finding, failed, skipped
from loadtest.conform.http import ProtocolError, request
from loadtest.conform.judge import UnmetError, said
from loadtest.conform.rig import Rig

__all__ = ["Result", "UnreachableError", "all_cases", "find_model", "reach", "run_cases"]

_LOG: Final = logging.getLogger("conform.suite")
_AT_A_TIME: Final = 6
_CASE_S: Final = 120.0
_LONGEST_EVIDENCE: Final = 300


class UnreachableError(Exception):
    """The gateway does not answer, or lists no model."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the report."""

    id: str
    group: str
    needs: str
    severity: str
    requires: str
    threads: tuple[str, ...]
    verdict: str
    evidence: str
    seconds: float


def all_cases() -> list[Case]:
    """Return every case, in the order of the topics."""
    order = cases.__all__
    return sorted(CASES.values(), key=lambda one: order.index(one.group))


async def reach(rig: Rig) -> None:
    """Connect once.

    Raises:
        UnreachableError: nobody listens there.
    """
    try:
        async with rig.channel():
            return
    except (OSError, TimeoutError) as error:
        raise UnreachableError(f"{rig.target.url} does not answer: {str(error) or type(error).__name__}") from error


async def find_model(rig: Rig) -> str:
    """Return the first model that the gateway lists.

    Raises:
        UnreachableError: there is none.
    """
    try:
        answer = await rig.exchange(request(rig.target, method="GET", path="/v1/models"))
        return str(json.loads(answer.body)["data"][0]["id"])
    except (OSError, TimeoutError, ProtocolError) as error:
        raise UnreachableError(f"{rig.target.url} does not answer: {str(error) or type(error).__name__}") from error
    except (ValueError, LookupError, TypeError):
        raise UnreachableError(f"{rig.target.url} lists no model: {said(answer)}; name one with --model") from None


async def run_cases(
    rig: Rig, chosen: Sequence[Case], *, addresses: int = 0, told: Callable[[Result, int], None] | None = None
) -> list[Result]:
    """Run cases and return their results in the order given.

    Args:
        rig: the gateway and what stands behind it.
        chosen: the cases.
        addresses: how many addresses of the scripted backend the gateway knows.
        told: called after each case, with the number still to come.
    """
    results: dict[str, Result] = {}
    gate = asyncio.Semaphore(_AT_A_TIME)

    async def one(chosen_case: Case) -> None:
        async with gate:
            result = await _run(rig, chosen_case, addresses)
            results[chosen_case.id] = result
            if told is not None:
                told(result, len(chosen) - len(results))

    # Failing answers are spread among good ones: a circuit breaker in the gateway would spoil what follows.
    together = [one_case for one_case in chosen if not one_case.alone]
    spread = [one_case for start in range(5) for one_case in together[start::5]]
    await asyncio.gather(*(one(one_case) for one_case in spread))
    for one_case in chosen:
        if one_case.alone:
            await one(one_case)
    return [results[one_case.id] for one_case in chosen]


async def _run(rig: Rig, chosen: Case, addresses: int) -> Result:
    began = monotonic()
    finding = await _find(dataclasses.replace(rig), chosen, addresses)
    evidence = " ".join(finding.evidence.split())
    return Result(
        id=chosen.id,
        group=chosen.group,
        needs=chosen.needs,
        severity=chosen.severity,
        requires=chosen.requires,
        threads=chosen.threads,
        verdict=str(finding.verdict),
        evidence=evidence if len(evidence) <= _LONGEST_EVIDENCE else evidence[: _LONGEST_EVIDENCE - 1] + "…",
        seconds=round(monotonic() - began, 3),
    )


async def _find(rig: Rig, chosen: Case, addresses: int) -> Finding:
    if chosen.needs != "gateway" and rig.backend is None:
        return skipped("needs the scripted backend: --backend-listen HOST:PORT")
    if chosen.needs == "pair" and addresses < 2:
        return skipped("needs two engines: give --backend-listen twice")
    try:
        async with asyncio.timeout(_CASE_S):
            return await chosen.run(rig)
    except UnmetError as error:
        return failed(str(error))
    except ProtocolError as error:
        return failed(f"no HTTP answer: {error}")
    except TimeoutError:
        return failed(f"nothing came within {rig.patience_s:g} s")
    except OSError as error:
        return failed(f"the connection failed: {error}")
    except Exception as error:  # noqa: BLE001  a case's outermost frame: the others have their verdicts, too
        # What came is JSON of a shape that no case thought of; or it is our bug, and the log has it.
        _LOG.exception("case %s ended in an exception", chosen.id)
        return failed(f"what came could not be read: {type(error).__name__}: {error}")
