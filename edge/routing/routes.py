"""Route answers, cached: control says "where to?", and streams start without it while it is away (law 1)."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import Final

import msgspec

from streamkit.ops import catalog
from streamkit.ops.http_client import Headers, HttpClient, HttpError
from streamkit.ops.metrics import Metrics
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.route import RouteAnswer, RouteRequest
from streamkit.wire.state import CACHE_MS
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["Routes"]

_LOG = logging.getLogger("headrace.edge.routes")
#: Distinct keys kept; a key is a model and three small classes, so this is far beyond honest use.
_MAX_ENTRIES: Final = 4096
#: Sheds kept apart, so that made-up model names push out nothing but each other.
_MAX_SHEDS: Final = 256


class _Entry:
    __slots__ = ("answer", "asked_at", "epoch", "silent")

    def __init__(self, answer: RouteAnswer, epoch: int) -> None:
        self.answer = answer
        self.asked_at = monotonic()
        self.epoch = epoch
        #: Control did not answer when it was last asked again.
        self.silent = False


class Routes:
    """Asks control, and remembers.

    - Within its ttl an answer is used as it is.
    - After it, while control's state has not changed, it is used once more and refreshed behind the request's back.
    - When control's state has changed, or the answer was a shed, the request waits for a new one.
    - While control is silent, sets are used for up to ten minutes, and counted as `stale`.

    Args:
        http: the control client.
        url: control's base address.
        timeout_ms: longest wait for an answer.
        metrics: where look-ups are counted, by source.
        headers: sent with every question.
    """

    def __init__(
        self, http: HttpClient, url: str, *, timeout_ms: int, metrics: Metrics, headers: Headers = ()
    ) -> None:
        self._http = http
        self._url = url.rstrip("/") + "/v1/route"
        self._timeout_ms = timeout_ms
        self._headers = headers
        self._entries: dict[RouteRequest, _Entry] = {}
        self._sheds: dict[RouteRequest, _Entry] = {}
        #: By epoch too: whoever asks after a change must not join a question from before it.
        self._asking: dict[tuple[RouteRequest, int], asyncio.Task[RouteAnswer]] = {}
        self._epoch = 0
        self._changed_at = 0
        #: What control last said that was no answer; told once.
        self._refused = ""
        self._cached = metrics.counter(catalog.ROUTES, "cache")
        self._asked = metrics.counter(catalog.ROUTES, "control")
        self._stale = metrics.counter(catalog.ROUTES, "stale")
        self._failed = metrics.counter(catalog.ROUTES, "none")

    def changed(self, at: int = 0) -> None:
        """Control's state is not what cached answers were made from.

        Args:
            at: by control's count, when something changed that they depend on; 0 = it does not say.
        """
        if not at or at != self._changed_at:
            self._epoch += 1
        self._changed_at = at

    def cached(self, request: RouteRequest) -> RouteAnswer | None:
        """Return an answer that may be used without waiting, or None."""
        entry = self._entries.get(request) or self._sheds.get(request)
        if entry is None or entry.epoch != self._epoch:
            return None
        age_ms = (monotonic() - entry.asked_at) * 1000
        if age_ms <= entry.answer.ttl_ms:
            self._cached.value += 1
            return entry.answer
        if entry.answer.shed is None and age_ms <= CACHE_MS:
            self._ask(request)
            (self._stale if entry.silent else self._cached).value += 1
            return entry.answer
        return None

    async def route(self, request: RouteRequest) -> RouteAnswer:
        """Return an answer, asking control when there is none to use.

        Raises:
            HeadraceError: NO_ROUTE; control is silent and nothing is cached.
        """
        answer = self.cached(request)
        if answer is not None:
            return answer
        try:
            answer = await asyncio.shield(self._ask(request))
        except HttpError as exc:
            entry = self._entries.get(request)
            if entry is not None and (monotonic() - entry.asked_at) * 1000 <= CACHE_MS and entry.answer.shed is None:
                self._stale.value += 1
                return entry.answer
            self._failed.value += 1
            text = "Routing is unavailable: the control plane does not answer. Try again shortly."
            raise HeadraceError(Code.NO_ROUTE, text) from exc
        self._asked.value += 1
        return answer

    def close(self) -> None:
        """Stop asking."""
        for task in self._asking.values():
            task.cancel()

    def _ask(self, request: RouteRequest) -> asyncio.Task[RouteAnswer]:
        """Ask once for each key at a time, however many requests wait."""
        key = (request, self._epoch)
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.get_running_loop().create_task(self._fetch(request, self._epoch))
            task.add_done_callback(_retrieve)
        return task

    async def _fetch(self, request: RouteRequest, epoch: int) -> RouteAnswer:
        try:
            payload = msgspec.to_builtins(request)
            response = await self._http.post_json(
                self._url, payload, timeout_ms=self._timeout_ms, headers=self._headers
            )
            if response.status != 200:
                raise HttpError("status", f"{self._url} answered {response.status}")
            try:
                answer = msgspec.json.decode(response.body, type=RouteAnswer)
            except UNREADABLE as exc:
                raise HttpError("body", f"{self._url} answered what is no route: {exc}") from exc
            self._keep(request, _Entry(answer, epoch))
        except HttpError as exc:
            self._tell(exc)
            if (entry := self._entries.get(request)) is not None:
                entry.silent = True
            raise
        else:
            self._refused = ""
            return answer
        finally:
            self._asking.pop((request, epoch), None)

    def _tell(self, error: HttpError) -> None:
        """Log a control that answers, and not as it should: an older one, or none; its silence is told already."""
        if error.reason in ("status", "body") and error.detail != self._refused:
            self._refused = error.detail
            _LOG.warning("no route: %s; is control as new as this edge?", error.detail)

    def _keep(self, request: RouteRequest, entry: _Entry) -> None:
        if entry.answer.shed is None:
            kept, other, bound = self._entries, self._sheds, _MAX_ENTRIES
        else:
            kept, other, bound = self._sheds, self._entries, _MAX_SHEDS
        other.pop(request, None)
        if len(kept) >= bound and request not in kept:
            kept.pop(next(iter(kept)))
        kept[request] = entry


def _retrieve(task: asyncio.Task[RouteAnswer]) -> None:
    """A refresh behind a request's back may fail with nobody waiting; the next request sees its age."""
    if not task.cancelled() and (exc := task.exception()) is not None:
        _LOG.debug("route refresh failed: %s", exc)
