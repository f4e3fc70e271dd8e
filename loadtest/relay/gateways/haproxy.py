"""HAProxy in HTTP mode: one thread, kept upstream connections."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Final
from urllib.parse import urlsplit

from loadtest.relay.gateways.base import CONNECTIONS, ProcessGateway, find_program, first_line

_CONFIG: Final = Template("""\
global
  maxconn $connections
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  option http-keep-alive
  # Without it tokens wait in the kernel for more to come, up to 200 ms (measured).
  option http-no-delay
  http-reuse always
frontend clients
  bind 127.0.0.1:$port backlog 4096
  default_backend engines
backend engines
  server bench $backend
""")


class Haproxy(ProcessGateway):
    """The other C proxy."""

    def __init__(self) -> None:
        super().__init__("haproxy", interpreted=False)

    def available(self) -> str | None:
        """It needs the program."""
        return None if find_program("haproxy") else "haproxy is not installed"

    def version(self) -> str:
        """Return the number that `haproxy -v` says."""
        found = re.search(r"\d+\.\d+[\w.]*", first_line([find_program("haproxy") or "haproxy", "-v"]))
        return found[0] if found else ""

    def command(self, backend_url: str, port: int, scratch: Path) -> Sequence[str]:
        """Write the configuration and return the command line."""
        config = scratch / "haproxy.cfg"
        config.write_text(
            _CONFIG.substitute(connections=CONNECTIONS, backend=urlsplit(backend_url).netloc, port=port)
        )
        return [find_program("haproxy") or "haproxy", "-db", "-f", str(config)]
