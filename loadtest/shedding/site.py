"""Two simulated engines, and everything else as `headrace up` runs it: edge, control, arbiter, NATS."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final, Self

from loadtest.launched import Launched, SiteError, services
from loadtest.relay.gateways.base import answers, free_port

__all__ = ["MODEL", "NAMES", "Site", "SiteError"]

MODEL: Final = "sim-chat"
#: The first one is preferred, and is the one that is overloaded.
NAMES: Final = ("alpha", "beta")
#: Requests that each serves at a time.
AT_A_TIME: Final = 4
_FILE: Final = """\
[edge]
region = "alpha"

[control]
probe_interval_ms = 500

[arbiter]
inventory = "static"

[nats]
"""


class Site:
    """An async context manager.

    Args:
        scratch: a folder for configuration and logs.

    Raises:
        SiteError: on entry, when it does not start.
    """

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._launched = Launched(scratch)
        #: Of the engines, by name.
        self.engines = {name: f"http://127.0.0.1:{free_port()}" for name in NAMES}
        self.edge = ""
        self.control = ""

    async def __aenter__(self) -> Self:
        try:
            text = _FILE
            for name, url in self.engines.items():
                settings = f'models = ["{MODEL}"]\nttft_ms = 10.0\nitl_ms = 10.0\nmax_num_seqs = {AT_A_TIME}\n'
                config = self._scratch / f"{name}.toml"
                config.write_text(f"[simulator]\n{settings}")
                port = url.rsplit(":", 1)[1]
                engine = self._launched.start(name, "simulate", "--config", str(config), "--port", port)
                await self._launched.until(partial(answers, url, "/health", 1.0), engine)
                text += f'\n[[backends]]\nname = "{name}"\nregion = "{name}"\nengine = "vllm"\nurl = "{url}"\n'
                text += f"simulated = true\nmax_inflight = {AT_A_TIME}\n"
            config, ready = self._scratch / "headrace.toml", self._scratch / "ready.json"
            config.write_text(text)
            options = ["--config", str(config), "--port-base", "0", "--ready-file", str(ready)]
            gateway = self._launched.start("up", "up", *options)
            await self._launched.until(lambda: self._serves(ready), gateway)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._launched.stop_all()

    def _serves(self, ready: Path) -> bool:
        urls = {name: one.url for name, one in services(ready).items()}
        self.edge, self.control = urls.get("edge") or "", urls.get("control") or ""
        return bool(self.edge and self.control and answers(self.edge, f"/v1/models/{MODEL}", 1.0))
