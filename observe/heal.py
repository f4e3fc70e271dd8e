"""What is done about sick paths: holds, restarts, and when neither. No I/O; a clock in.

A backend that is sick on every path gets no new work anywhere (a hold at control); one that is sick on some paths
only gets none from those nodes. All holds of one backend at a time are one *episode*, and one act: paths are probed
at different moments, so a sickness that everybody sees begins as one of somebody. A hold is renewed while the
sickness lasts and released after it. Held and sick for too long, its arbiter is asked for a restart, once for each
hold. Acts are bounded in number within a window, by a pause for each backend, and by what would be left: the last
healthy backend of a model is never held.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from streamkit.flow.clock import MONOTONIC, Clock

__all__ = ["Act", "Backend", "HealRule", "Healer", "Path"]

_FIGURES: Final = re.compile(r"\d+")
#: An act that did not come about is tried again so much later.
_AGAIN_S: Final = 5.0
Key = tuple[str, str]


class Act(NamedTuple):
    """One thing to do."""

    kind: Literal["hold", "renew", "release", "restart"]
    backend: str
    #: The node that is to leave it alone; empty = all.
    node: str
    why: str


class Path(NamedTuple):
    """How one path is."""

    node: str
    backend: str
    sick: bool
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One backend, as control sees it."""

    up: bool
    models: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealRule:
    """How much may be done. Times are seconds."""

    max_acts: int
    window_s: float
    pause_s: float
    #: 0 = no restarts.
    restart_after_s: float


class _Spent(NamedTuple):
    """One act that counts: when it was, and when there was one against its backend before."""

    at_s: float
    before_s: float | None


@dataclass(slots=True)
class _Held:
    since_s: float
    #: None = it is a part of an episode that is an act already.
    spent: _Spent | None
    #: The restart that was asked for; None = none was.
    restart: _Spent | None = None


@dataclass(slots=True)
class Healer:
    """Decides.

    Args:
        rule: how much may be done.
        clock: monotonic seconds.
    """

    rule: HealRule
    clock: Clock = MONOTONIC
    #: Acts that were called for and not done, newest last: backend, node, why.
    withheld: list[tuple[str, str, str]] = field(default_factory=list)
    #: Holds that there should be, as of the last decision.
    wanted: frozenset[Key] = frozenset()
    _held: dict[Key, _Held] = field(default_factory=dict)
    #: Nodes that had a hold in the episode of a backend; an empty name = all nodes.
    _episodes: dict[str, set[str]] = field(default_factory=dict)
    _acted: deque[float] = field(default_factory=deque)
    #: When the last act against a backend was.
    _last: dict[str, float] = field(default_factory=dict)
    #: When a hold that did not come about may be tried again.
    _again_s: dict[Key, float] = field(default_factory=dict)
    _told: dict[Key, str] = field(default_factory=dict)

    @property
    def held(self) -> frozenset[Key]:
        """What is held now: backend and node, empty for all nodes."""
        return frozenset(self._held)

    def decide(self, paths: Iterable[Path], backends: Mapping[str, Backend]) -> list[Act]:
        """Return what to do now, in this order.

        Args:
            paths: all that are probed.
            backends: all that control knows, by name.
        """
        self.withheld.clear()
        wanted = self._wanted(list(paths), backends)
        self.wanted, now = frozenset(wanted), self.clock()
        self._last = {name: at_s for name, at_s in self._last.items() if now - at_s < self.rule.pause_s}
        acts: list[Act] = []
        before = self.held
        # What is new comes first: where a hold takes another one's place, there is no moment without one.
        for key, why in wanted.items():
            if key in self._held:
                acts.append(Act("renew", *key, why))
                acts += self._restart(key, why)
            elif self.clock() < self._again_s.get(key, 0.0):
                continue
            elif reason := self._forbids(key, backends, wanted):
                self._withhold(key, reason)
            else:
                acts.append(self._hold(key, why))
        acts += [self._let_go(key, wanted, before) for key in sorted(self._held.keys() - wanted.keys())]
        for name in [name for name in self._episodes if not self._of(name)]:
            del self._episodes[name]
        for left in (self._told, self._again_s):
            for key in left.keys() - wanted.keys():
                del left[key]
        return acts

    def undone(self, act: Act) -> None:
        """An act was refused by whoever should have taken it, or did not reach him."""
        key, now = (act.backend, act.node), self.clock()
        if act.kind in ("hold", "renew"):
            held = self._held.pop(key, None)
            self._again_s[key] = now + _AGAIN_S
            if act.kind == "hold" and held is not None:
                self._episodes.get(act.backend, set()).discard(act.node)
                self._unspend(act.backend, held.spent)
        elif act.kind == "restart" and (held := self._held.get(key)) is not None:
            self._unspend(act.backend, held.restart)
            # Asked for again when as much time has gone by once more.
            held.since_s, held.restart = now, None

    def _wanted(self, paths: list[Path], backends: Mapping[str, Backend]) -> dict[Key, str]:
        """Return which holds there should be, and why."""
        wanted: dict[Key, str] = {}
        for name in sorted({path.backend for path in paths} & backends.keys()):
            mine = [path for path in paths if path.backend == name]
            sick = [path for path in mine if path.sick]
            if not sick:
                continue
            if len(sick) == len(mine):
                wanted[name, ""] = sick[0].why
            else:
                well = {path.node for path in mine if not path.sick}
                wanted |= {(name, path.node): path.why for path in sick if path.node and path.node not in well}
        return wanted

    def _forbids(self, key: Key, backends: Mapping[str, Backend], wanted: Mapping[Key, str]) -> str:
        """Return why a hold may not be made; empty = it may."""
        (backend, node), now = key, self.clock()
        sick = {name for name, where in wanted if where in ("", node) or not node}
        out = sick | {name for name, where in self._held if where in ("", node) or not node}
        for model in sorted(backends[backend].models):
            others = {name for name, one in backends.items() if one.up and model in one.models and name != backend}
            if not others - out:
                return f"the last healthy backend of {model}"
        if self._continues(key):
            return ""
        last = self._last.get(backend)
        if last is not None and now - last < self.rule.pause_s:
            return f"an act against it {now - last:.0f} s ago"
        if self._spent_up(now):
            return f"{self.rule.max_acts} acts within {self.rule.window_s:.0f} s"
        return ""

    def _continues(self, key: Key) -> bool:
        """Say whether a hold is only more of an act that was done: for a further node, or for all of them."""
        backend, node = key
        return bool(self._of(backend)) and node not in self._episodes.get(backend, ())

    def _of(self, backend: str) -> list[Key]:
        return [key for key in self._held if key[0] == backend]

    def _hold(self, key: Key, why: str) -> Act:
        backend, node = key
        spent = None if self._continues(key) else self._spend(backend)
        self._held[key] = _Held(self.clock(), spent)
        self._episodes.setdefault(backend, set()).add(node)
        self._told.pop(key, None)
        return Act("hold", backend, node, why)

    def _let_go(self, key: Key, wanted: Mapping[Key, str], before: frozenset[Key]) -> Act:
        """Release what is not wanted any more; a node's hold stays until the one for all nodes has come about."""
        backend, node = key
        wide = (backend, "")
        if node and wide in wanted and wide not in before:
            return Act("renew", backend, node, wanted[wide])
        del self._held[key]
        others = any(name == backend for name, _ in wanted)
        return Act("release", backend, node, "held otherwise" if others else "none of its paths is sick any more")

    def _restart(self, key: Key, why: str) -> list[Act]:
        backend, node = key
        held, now = self._held[key], self.clock()
        if node or held.restart is not None or not self.rule.restart_after_s:
            return []
        if now - held.since_s < self.rule.restart_after_s:
            return []
        if self._spent_up(now):
            self._withhold(key, f"a restart: {self.rule.max_acts} acts within {self.rule.window_s:.0f} s")
            return []
        held.restart = self._spend(backend)
        return [Act("restart", backend, "", why)]

    def _spend(self, backend: str) -> _Spent:
        spent = _Spent(self.clock(), self._last.get(backend))
        self._acted.append(spent.at_s)
        self._last[backend] = spent.at_s
        return spent

    def _unspend(self, backend: str, spent: _Spent | None) -> None:
        """An act did not come about: it counts as none."""
        if spent is None or spent.at_s not in self._acted:
            return
        self._acted.remove(spent.at_s)
        self._last.pop(backend, None)
        if spent.before_s is not None:
            self._last[backend] = spent.before_s

    def _spent_up(self, now: float) -> bool:
        while self._acted and now - self._acted[0] >= self.rule.window_s:
            self._acted.popleft()
        return len(self._acted) >= self.rule.max_acts

    def _withhold(self, key: Key, why: str) -> None:
        """Say once for each reason that something is not done; figures in it do not make it another reason."""
        kind = _FIGURES.sub("", why)
        if self._told.get(key) != kind:
            self._told[key] = kind
            self.withheld.append((*key, why))
