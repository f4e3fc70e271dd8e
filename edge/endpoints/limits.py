"""What tenants may use of this edge: rates and streams from control's snapshot, divided by the edges that live.

Edges do not ask each other. Each enforces its part, so the limits hold while control is away, by the last snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from edge.protocol.request import Call
from streamkit.flow.clock import MONOTONIC, Clock
from streamkit.flow.quota import Limits, Quota, Refusal
from streamkit.ops import catalog
from streamkit.ops.metrics import Metrics
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.keys import Tenant
from streamkit.wire.openai import Usage
from streamkit.wire.ratelimit import rate_headers
from streamkit.wire.state import Snapshot

__all__ = ["Allowance", "TenantLimits"]

#: A token is about four bytes of English; further bytes are most likely a picture, which costs far fewer.
_BYTES_A_TOKEN: Final = 4
_MAX_PROMPT_TOKENS: Final = 32_768
#: Expected of an answer whose request does not say how long it may be.
_ANSWER_TOKENS: Final = 256
#: Tenant classes that get a label of their own.
_MAX_CLASSES: Final = 32


class Allowance:
    """One request's part of its tenant's limits, from its admission to its end; `settle` it exactly once.

    Args:
        quota: charged; None = the tenant has no limits.
        prompt: tokens expected of the prompt.
        answer: tokens expected of the answer.
    """

    __slots__ = ("_answer", "_prompt", "_quota")

    def __init__(self, quota: Quota | None, prompt: int, answer: int) -> None:
        self._quota = quota
        self._prompt = prompt
        self._answer = answer

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return `x-ratelimit-*` as of now; none for a tenant without rates."""
        return [] if self._quota is None else _headers(self._quota)

    def settle(self, usage: Usage | None, events: int) -> None:
        """Correct the estimate by what the request used, and give its stream back.

        Args:
            usage: by the engine's figures; None = it told none.
            events: delivered, a whole answer is one; without usage each counts as a token, and none as no work.
        """
        if self._quota is None:
            return
        if usage is not None:
            used = usage.prompt_tokens + (usage.completion_tokens or 0)
        else:
            used = self._prompt + events if events else 0
        self._quota.charge(used - self._prompt - self._answer)
        self._quota.end()


_UNLIMITED: Final = Allowance(None, 0, 0)


class TenantLimits:
    """The quotas of all tenants that have asked for anything.

    Args:
        metrics: where refusals are counted, by tenant class.
        burst_ms: how much of a minute's allowance may be used at once, in milliseconds.
        clock: monotonic seconds.
    """

    def __init__(self, metrics: Metrics, *, burst_ms: int, clock: Clock = MONOTONIC) -> None:
        self._clock = clock
        self._metrics = metrics
        self._burst_ms = burst_ms
        self._quotas: dict[str, Quota] = {}
        self._edges = 1
        self._classes: set[str] = set()

    @property
    def streams(self) -> int:
        """Streams of limited tenants that have not settled."""
        return sum(quota.streams for quota in self._quotas.values())

    def update(self, snapshot: Snapshot) -> None:
        """Put a newer snapshot's limits and number of edges into force."""
        self._edges = max(1, sum(not edge.draining for edge in snapshot.edges))
        tenants = {tenant.name: tenant for tenant in snapshot.keys.tenants}
        for name, quota in list(self._quotas.items()):
            tenant = tenants.get(name)
            if tenant is not None:
                quota.change(_limits(tenant), parts=self._edges)
            elif not quota.streams:
                del self._quotas[name]

    def begin(self, tenant: Tenant, call: Call) -> Allowance:
        """Count one request in.

        Raises:
            HeadraceError: OVER_QUOTA, with the exact time after which one could begin.
        """
        limits = _limits(tenant)
        if limits == _NONE:
            return _UNLIMITED
        quota = self._quotas.get(tenant.name)
        if quota is None:
            quota = Quota(limits, parts=self._edges, burst_ms=self._burst_ms, clock=self._clock)
            self._quotas[tenant.name] = quota
        refusal = quota.begin()
        if refusal is not None:
            self._count(tenant.tenant_class, refusal)
            raise _refused(limits, refusal, _headers(quota))
        prompt = min(len(call.body) // _BYTES_A_TOKEN, _MAX_PROMPT_TOKENS)
        answer = _ANSWER_TOKENS if call.max_tokens is None else max(0, call.max_tokens)
        quota.charge(prompt + answer)
        return Allowance(quota, prompt, answer)

    def _count(self, tenant_class: str, refusal: Refusal) -> None:
        if tenant_class not in self._classes:
            if len(self._classes) >= _MAX_CLASSES:
                tenant_class = "other"
            self._classes.add(tenant_class)
        self._metrics.counter(catalog.RATE_LIMITED, tenant_class, refusal.limit).value += 1


_NONE: Final = Limits()


def _limits(tenant: Tenant) -> Limits:
    return Limits(tenant.requests_per_minute, tenant.tokens_per_minute, tenant.max_streams)


def _headers(quota: Quota) -> list[tuple[bytes, bytes]]:
    rows: Iterable[list[tuple[bytes, bytes]]] = (
        rate_headers(one.kind, limit=one.per_minute, remaining=one.remaining, reset_ms=one.full_in_ms)
        for one in quota.readings()
    )
    return [header for row in rows for header in row]


def _refused(limits: Limits, refusal: Refusal, headers: list[tuple[bytes, bytes]]) -> HeadraceError:
    match refusal.limit:
        case "requests":
            what = f"{limits.requests_per_minute} requests per minute"
        case "tokens":
            what = f"{limits.tokens_per_minute} tokens per minute"
        case "streams":
            what = f"{limits.max_streams} requests at a time"
    text = f"Over the limit of {what} for this key's tenant. Try again later, or ask for a higher limit."
    return HeadraceError(Code.OVER_QUOTA, text, retry_after_ms=refusal.retry_after_ms, headers=tuple(headers))
