"""What the edge knows of the rest of the system, and how old that is.

`StateSource` is the door; HTTP long polls are the first thing behind it, NATS subjects come later.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from time import monotonic
from typing import Protocol

import msgspec

from streamkit.ops.http_client import Headers, HttpClient, HttpError
from streamkit.wire.state import EdgeReport, Snapshot, SyncRequest
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["HttpStateSource", "StateSource"]

_LOG = logging.getLogger("headrace.edge.state")
_RETRY_S = (0.1, 0.2, 0.5, 1.0)
#: Least time between two polls that bring no news, should control not hold them.
_LEAST_S = 0.05


class StateSource(Protocol):
    """Newest known state, with its age."""

    @property
    def snapshot(self) -> Snapshot | None:
        """The newest snapshot; None = never had one."""

    @property
    def age_ms(self) -> float | None:
        """Milliseconds since control was last heard; None = never."""

    @property
    def away(self) -> bool:
        """Control was not heard when it was asked last, so what is not in the snapshot may be there all the same."""


class HttpStateSource:
    """Long-polls `POST /v1/sync`.

    Args:
        http: the control client.
        url: control's base address.
        report: makes the edge's own report for each poll.
        wait_ms: how long control may hold a poll without news.
        on_change: called with each new snapshot.
        headers: sent with every poll.
    """

    def __init__(
        self,
        http: HttpClient,
        url: str,
        *,
        report: Callable[[], EdgeReport],
        wait_ms: int,
        on_change: Callable[[Snapshot], None],
        headers: Headers = (),
    ) -> None:
        self._http = http
        self._url = url.rstrip("/") + "/v1/sync"
        self._report = report
        self._wait_ms = wait_ms
        self._headers = headers
        self._on_change = on_change
        self._snapshot: Snapshot | None = None
        self._heard_at: float | None = None
        self._failures = 0

    @property
    def snapshot(self) -> Snapshot | None:
        """The newest snapshot; None = never had one."""
        return self._snapshot

    @property
    def age_ms(self) -> float | None:
        """Milliseconds since control was last heard; None = never."""
        return None if self._heard_at is None else (monotonic() - self._heard_at) * 1000

    @property
    def away(self) -> bool:
        """Control was not heard when it was asked last."""
        return self._snapshot is None or self._failures > 0

    async def run(self) -> None:
        """Poll for ever; failures are logged once for each outage."""
        while True:
            began = monotonic()
            try:
                news = await self._poll()
            except (HttpError, *UNREADABLE) as exc:
                if self._failures == 0:
                    _LOG.warning("control does not answer; going on with what is cached: %s", exc)
                wait_s = _RETRY_S[min(self._failures, len(_RETRY_S) - 1)]
                self._failures += 1
                await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            else:
                if self._failures:
                    _LOG.info("control answers again")
                self._failures = 0
                if not news and (rest_s := began + _LEAST_S - monotonic()) > 0:
                    await asyncio.sleep(rest_s)

    async def _poll(self) -> bool:
        """Ask once; return whether there was news."""
        known = self._snapshot
        request = SyncRequest(
            edge=self._report(), after=known.header.sequence if known else 0, wait_ms=self._wait_ms if known else 0
        )
        payload = msgspec.to_builtins(request)
        response = await self._http.post_json(
            self._url, payload, timeout_ms=self._wait_ms + 2_000, headers=self._headers
        )
        if response.status != 200:
            raise HttpError("status", f"{self._url} answered {response.status}")
        snapshot = msgspec.json.decode(response.body, type=Snapshot)
        self._heard_at = monotonic()
        new, old = snapshot.header, known.header if known else None
        if old is not None and (new.instance, new.sequence) == (old.instance, old.sequence):
            return False
        self._snapshot = snapshot
        self._on_change(snapshot)
        return True
