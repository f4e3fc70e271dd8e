"""`--self`: our own edge and control over the scripted backend, started by `launch` as a user starts them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Final, Self

from loadtest.conform.rig import Timings
from loadtest.launched import Launched, services
from loadtest.relay.gateways.base import answers

__all__ = ["OURS", "Ours"]

#: Short enough for a suite, long enough for a loud machine.
OURS: Final = Timings(first_event_s=2.0, idle_s=2.0, heartbeat_s=0.5)
_EDGE: Final = Template("""\
[edge]
route_timeout_ms = 400
queue_ms = 400
commit_after_ms = $heartbeat
heartbeat_ms = $heartbeat
first_event_ms = $first_event
idle_ms = $idle
# The suite breaks engines on purpose; an open breaker would refuse what comes next.
breaker_failures = 1000

[control]
probe_interval_ms = 500
""")
_BACKEND: Final = Template("""
[[backends]]
name = "scripted-$number"
engine = "vllm"
url = "$url"
models = ["$model"]
""")


class Ours:
    """A running Headrace; an async context manager.

    Args:
        urls: the scripted backend's addresses.
        model: what it serves.
        scratch: a folder for configuration and log.

    Raises:
        SiteError: on entry, when it does not start.
    """

    def __init__(self, urls: Sequence[str], model: str, scratch: Path) -> None:
        self._config = scratch / "headrace.toml"
        self._ready = scratch / "ready.json"
        text = _EDGE.substitute(
            heartbeat=int(OURS.heartbeat_s * 1000),
            first_event=int(OURS.first_event_s * 1000),
            idle=int(OURS.idle_s * 1000),
        )
        for number, url in enumerate(urls, 1):
            text += _BACKEND.substitute(number=number, url=url, model=model)
        self._config.write_text(text)
        self._launched = Launched(scratch)
        #: The edge's address, once it runs.
        self.url = ""
        #: Its health and metrics.
        self.ops_url = ""

    async def __aenter__(self) -> Self:
        options = ["--config", str(self._config), "--port-base", "0", "--ready-file", str(self._ready)]
        try:
            gateway = self._launched.start("headrace", "up", *options)
            await self._launched.until(self._serves, gateway)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._launched.stop_all()

    def _serves(self) -> bool:
        edge = services(self._ready).get("edge")
        if edge is None or edge.url is None or edge.ops_url is None:
            return False
        self.url, self.ops_url = edge.url, edge.ops_url
        # Ready, and with a route: control has seen the backend.
        return answers(edge.ops_url, "/readyz", 1.0) and answers(edge.url, "/v1/models", 1.0)
