"""The healer at work: what it decides, done at control and told of, or only told."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import Final

import msgspec

from observe.heal import Act, Backend, Healer, HealRule, Path
from observe.listed import Listed
from observe.settings import HealingSettings
from streamkit.ops import catalog, log
from streamkit.ops.http_client import Headers, HttpClient, HttpError
from streamkit.ops.metrics import Metrics
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["Healing", "Tell"]

_log = logging.getLogger(__name__)
Tell = Callable[[str, Mapping[str, object]], None]
_CALL_MS: Final = 2_000
_WHY: Final = 256
#: Renewals that do not reach control are tried again so often.
_RENEW_AGAIN_S: Final = 1.0


class Healing:
    """Acts on sick paths.

    Args:
        settings: `[healing]`.
        control_url: where control takes acts.
        headers: that show who asks there.
    """

    def __init__(self, settings: HealingSettings, control_url: str, headers: Headers = ()) -> None:
        self._settings = settings
        self._url = control_url.rstrip("/")
        self._headers = headers
        self._acts: dict[tuple[str, str], int] = defaultdict(int)
        #: When a hold was renewed, or control was asked for that.
        self._renewed: dict[tuple[str, str], float] = {}
        #: Why the last act of a kind was refused, so that the same is told once.
        self._refused: dict[tuple[str, str, str], str] = {}
        self._healer = Healer(
            HealRule(
                max_acts=settings.max_acts,
                window_s=settings.window_ms / 1000,
                pause_s=settings.pause_ms / 1000,
                restart_after_s=settings.restart_after_ms / 1000,
            )
        )

    def show(self, metrics: Metrics) -> None:
        """Have acts counted where metrics are read."""
        metrics.watch(catalog.HEALING_ACTS, lambda: [(key, float(count)) for key, count in self._acts.items()])

    def holds(self, backend: str, node: str) -> bool:
        """Say whether a backend is held for a node."""
        return self._settings.mode == "on" and bool({(backend, ""), (backend, node)} & self._healer.held)

    async def heal(
        self, http: HttpClient, paths: Iterable[Path], backends: Mapping[str, Listed] | None, tell: Tell
    ) -> None:
        """Do what there is to be done now.

        Args:
            http: makes the calls.
            paths: how all that are probed are.
            backends: all that control knows, by name; None = control does not answer, and nobody can act.
            tell: told of each act, as an event.
        """
        if self._settings.mode == "off" or backends is None:
            return
        seen = {
            name: Backend(up=line.health == "up", models=frozenset(line.models)) for name, line in backends.items()
        }
        acts = self._healer.decide(paths, seen)
        # What is called for anew later is another act, and told even if it is refused for the same reason.
        self._refused = {what: why for what, why in self._refused.items() if what[1:] in self._healer.wanted}
        for backend, node, why in self._healer.withheld:
            _say(tell, "healing.withheld", backend=backend, node=node, why=why)
        for act in acts:
            if self._settings.mode == "on":
                await self._do(http, act, backends, tell)
            elif act.kind != "renew":
                self._acts[act.kind, "would"] += 1
                _say(tell, f"healing.would_{act.kind}", backend=act.backend, node=act.node, why=act.why)

    async def _do(self, http: HttpClient, act: Act, backends: Mapping[str, Listed], tell: Tell) -> None:
        """Do one act, and tell of it however it went."""
        key, now = (act.backend, act.node), monotonic()
        if act.kind == "renew" and not self._is_due(key, now, backends):
            return
        refused, reached = await self._asked(http, act)
        self._renewed[key] = now
        if refused and (reached or act.kind != "renew"):
            self._healer.undone(act)
        elif refused:
            # Its hold lasts on at control, or can be made again by this very renewal once control is back.
            self._renewed[key] = now - self._settings.hold_ms / 3_000 + _RENEW_AGAIN_S
        if act.kind == "release" or (act.kind == "hold" and refused):
            del self._renewed[key]
        if act.kind != "renew" or refused:
            self._acts[act.kind, "refused" if refused else "done"] += 1
        before = self._refused.pop((act.kind, *key), "")
        if refused:
            self._refused[act.kind, *key] = refused
        if (act.kind != "renew" and not refused) or (refused and refused != before):
            _say(
                tell, f"healing.{act.kind}", backend=act.backend, node=act.node, why=act.why, done=not refused,
                refused=refused or None,
            )  # fmt: skip

    def _is_due(self, key: tuple[str, str], now: float, backends: Mapping[str, Listed]) -> bool:
        """Say whether a hold is to be renewed: in time, or at once where control has lost it."""
        since_s = now - self._renewed.get(key, 0.0)
        line = backends.get(key[0])
        lost = line is not None and not line.holds(key[1]) and since_s > _RENEW_AGAIN_S
        return lost or since_s >= self._settings.hold_ms / 3_000

    async def _asked(self, http: HttpClient, act: Act) -> tuple[str, bool]:
        """Ask control for an act; return why it was not done, empty = it was, and whether control answered."""
        body: dict[str, object] = {"backend": act.backend, "why": act.why[:_WHY]}
        path = "/v1/ailing"
        if act.kind != "restart":
            path = "/v1/holds"
            body |= {"node": act.node, "ttl_ms": 0 if act.kind == "release" else self._settings.hold_ms}
        try:
            answer = await http.post_json(self._url + path, body, timeout_ms=_CALL_MS, headers=self._headers)
        except HttpError as error:
            return error.detail, False
        return "" if answer.status == 200 else _message(answer.body), True


def _message(body: bytes) -> str:
    """Return what a refusal says."""
    try:
        return str(msgspec.json.decode(body)["error"]["message"])[:_WHY]
    except (*UNREADABLE, LookupError, TypeError):
        return body.decode("utf-8", "replace")[:_WHY]


def _say(tell: Tell, name: str, **fields: object) -> None:
    log.event(_log, name, level=logging.WARNING, **fields)
    tell(name, {key: value for key, value in fields.items() if value is not None})
