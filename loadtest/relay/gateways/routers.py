"""The two Rust routers of the engines' own projects: vllm-router and sglang-router."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from loadtest.relay.gateways.base import (
    CONNECTIONS,
    PEERS_VENV,
    ProcessGateway,
    find_program,
    first_line,
    free_port,
)


class _Router(ProcessGateway):
    """A router whose program takes worker addresses on its command line."""

    start_s = 60.0
    #: Asks for its own state: the routers are up before they trust a worker.
    ready_path = "/readiness"
    arguments: Sequence[str] = ()

    def __init__(self, name: str, distribution: str) -> None:
        super().__init__(name, interpreted=False)
        self._distribution = distribution

    def available(self) -> str | None:
        """It needs the program."""
        if find_program(self.name):
            return None
        return f"{self.name} is neither on PATH nor in ${PEERS_VENV}/bin"

    def version(self) -> str:
        """Ask the interpreter beside the program which version is installed."""
        python = Path(find_program(self.name) or "").parent / "python"
        code = f"import importlib.metadata as m; print(m.version({self._distribution!r}))"
        return first_line([str(python), "-c", code]) if python.exists() else ""

    def environment(self, backend_url: str) -> Mapping[str, str]:
        """Say nothing below errors."""
        return {"RUST_LOG": "error"}

    def command(self, backend_url: str, port: int, scratch: Path) -> Sequence[str]:
        """Return the command line."""
        return [
            find_program(self.name) or self.name, *self.arguments, "--worker-urls", backend_url,
            "--host", "127.0.0.1", "--port", str(port), "--policy", "round_robin",
            "--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port()),
        ]  # fmt: skip


class VllmRouter(_Router):
    """The vLLM project's router."""

    def __init__(self) -> None:
        super().__init__("vllm-router", "vllm-router")


class SglangRouter(_Router):
    """The SGLang project's router (now Shepherd Model Gateway)."""

    arguments = ("launch", "--max-concurrent-requests", str(CONNECTIONS))

    def __init__(self) -> None:
        super().__init__("sglang-router", "sglang-router")
