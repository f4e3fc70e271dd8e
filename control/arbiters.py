"""What the arbiters say of their backends, one writer for each signal (law 9). Pure: messages and a clock in.

A host has one arbiter. Of two that publish for it the newer incarnation is believed, for as long as it is heard; the
older one is counted and told of once. A backend belongs to the host that named it first, likewise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from streamkit.flow.clock import MONOTONIC, Clock
from streamkit.wire.ids import Instance
from streamkit.wire.state import STALE_MS, STATE_VERSION, ArbiterState, Pressure, Residence
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["IGNORED", "Arbiters", "Word"]

#: Why a message may count for nothing.
IGNORED: Final = ("malformed", "older", "replayed", "claimed", "too_many")
_MAX_HOSTS: Final = 64
_MAX_BACKENDS: Final = 1_024
_DECODER: Final = msgspec.json.Decoder(ArbiterState)


class Word(msgspec.Struct, frozen=True):
    """An arbiter's last word on one backend."""

    pressure: Pressure
    age_ms: int
    #: Where its models are; empty = unknown.
    models: dict[str, Residence] = {}


class _Heard:
    __slots__ = ("at", "instance", "state")

    def __init__(self, state: ArbiterState, instance: Instance, at: float) -> None:
        self.state = state
        self.instance = instance
        self.at = at


class Arbiters:
    """The newest state of each arbiter.

    Args:
        clock: monotonic seconds.
        on_event: told of a host that changes its arbiter, and of one that has two.
    """

    def __init__(
        self, clock: Clock = MONOTONIC, on_event: Callable[[str, Mapping[str, object]], None] | None = None
    ) -> None:
        self.taken = 0
        self.ignored = dict.fromkeys(IGNORED, 0)
        self._clock = clock
        self._on_event = on_event
        self._hosts: dict[str, _Heard] = {}
        #: Which host speaks for a backend.
        self._owners: dict[str, str] = {}
        #: Pretenders that were told of: host -> instance.
        self._told: dict[str, str] = {}

    def read(self, message: bytes) -> bool:
        """Take a message in; False = it counts for nothing."""
        try:
            state = _DECODER.decode(message)
            instance = Instance.parse(state.header.instance)
            # The subject's last part and the instance's node are both the host.
            if state.header.version != STATE_VERSION or instance.node != state.host:
                raise ValueError
        except (*UNREADABLE, ValueError):
            self.ignored["malformed"] += 1
            return False
        why = self._take(state, instance)
        if why is not None:
            self.ignored[why] += 1
        else:
            self.taken += 1
        return why is None

    def word(self, backend: str) -> Word | None:
        """Return what was last said of a backend, and how old that is; None = nothing ever."""
        heard = self._hosts.get(self._owners.get(backend, ""))
        pressure = heard.state.pressure.get(backend) if heard is not None else None
        if heard is None or pressure is None:
            return None
        return Word(pressure, self._age_ms(heard), heard.state.models.get(backend, {}))

    def host(self, backend: str) -> str | None:
        """Return the host that speaks for a backend."""
        return self._owners.get(backend)

    def states(self) -> tuple[ArbiterState, ...]:
        """Return every host's last state with its age as of now."""
        return tuple(
            msgspec.structs.replace(
                heard.state, header=msgspec.structs.replace(heard.state.header, age_ms=self._age_ms(heard))
            )
            for _, heard in sorted(self._hosts.items())
        )

    def stale_in_s(self) -> float:
        """Return seconds until the next signal that is fresh now goes stale; a second where none is."""
        left_ms = [STALE_MS + 1 - age for heard in self._hosts.values() if (age := self._age_ms(heard)) <= STALE_MS]
        return min(left_ms, default=1_000) / 1000

    def _take(self, state: ArbiterState, instance: Instance) -> str | None:
        host, header = state.host, state.header
        before = self._hosts.get(host)
        if before is None and len(self._hosts) >= _MAX_HOSTS:
            return "too_many"
        if before is not None and before.instance == instance:
            if header.sequence <= before.state.header.sequence:
                return "replayed"
        elif before is not None:
            fresh = self._age_ms(before) <= STALE_MS
            if fresh and _rank(instance) < _rank(before.instance):
                self._pretender(host, str(instance), str(before.instance))
                return "older"
            self._told.pop(host, None)
            self._tell("arbiter.replaced", host=host, instance=str(instance), before=str(before.instance))
        mine, claimed = {}, False
        for name, pressure in list(state.pressure.items())[:_MAX_BACKENDS]:
            owner = self._owners.get(name, host)
            if owner != host and self._fresh(owner) and name in self._hosts[owner].state.pressure:
                claimed = True
                continue
            self._owners[name] = host
            mine[name] = pressure
        if claimed:
            self.ignored["claimed"] += 1
        for name in [name for name, owner in self._owners.items() if owner == host and name not in mine]:
            del self._owners[name]
        self._hosts[host] = _Heard(msgspec.structs.replace(state, pressure=mine), instance, self._clock())
        return None

    def _fresh(self, host: str) -> bool:
        heard = self._hosts.get(host)
        return heard is not None and self._age_ms(heard) <= STALE_MS

    def _age_ms(self, heard: _Heard) -> int:
        return heard.state.header.age_ms + int((self._clock() - heard.at) * 1000)

    def _pretender(self, host: str, older: str, newer: str) -> None:
        if self._told.get(host) != older:
            self._told[host] = older
            self._tell("arbiter.twice", host=host, ignored=older, believed=newer)

    def _tell(self, name: str, **fields: object) -> None:
        if self._on_event is not None:
            self._on_event(name, fields)


def _rank(instance: Instance) -> tuple[int, str]:
    return int(instance.incarnation, 16), str(instance)
