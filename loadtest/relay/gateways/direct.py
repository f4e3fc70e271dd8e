"""No gateway: the client talks to the backend. What every other figure is compared with."""

from __future__ import annotations

from pathlib import Path


class Direct:
    """The backend itself."""

    name = "direct"
    interpreted = False
    websocket = False

    def available(self) -> str | None:
        """It always is."""
        return None

    def version(self) -> str:
        """It has none."""
        return ""

    def start(self, backend_url: str, cpus: set[int], scratch: Path) -> str:
        """Return the backend's own address."""
        return backend_url

    def pids(self) -> tuple[int, ...]:
        """It has no process."""
        return ()

    def path_pids(self) -> tuple[int, ...]:
        """It has no process."""
        return ()

    def stop(self) -> None:
        """Nothing runs."""
