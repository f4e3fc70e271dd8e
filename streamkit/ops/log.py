"""Structured logging on the standard library: JSON lines for machines, short lines for a terminal.

One canonical line per stream is `event(logger, "stream.end", …)`. Prompts, answers and keys never reach a log:
fields whose names stand for them are withheld here, whatever the caller does.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
from typing import Any, Final, TextIO

__all__ = ["configure", "event"]

_FIELDS: Final = "headrace_fields"
#: Names under which prompt text, answers or credentials travel. Counts (`tokens`) are fine.
_WITHHELD: Final = frozenset(
    {
        "api_key", "authorization", "body", "content", "cookie", "delta", "key", "message", "messages",
        "password", "prompt", "secret", "text", "token",
    }
)  # fmt: skip
_COLOURS: Final = {logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "31;1"}


def event(logger: logging.Logger, name: str, /, *, level: int = logging.INFO, **fields: object) -> None:
    """Log one event with its fields.

    Args:
        logger: the module's own logger.
        name: dotted, noun first: `stream.end`, `backend.down`.
        level: a `logging` level.
        fields: JSON scalars or small containers; units in the names. None is left out.
    """
    if logger.isEnabledFor(level):
        safe = {
            key: "[withheld]" if key in _WITHHELD else value for key, value in fields.items() if value is not None
        }
        logger.log(level, name, extra={_FIELDS: safe})


def configure(service: str, *, level: str = "info", stream: TextIO | None = None) -> None:
    """Send all logging of this process to `stream` (standard error), in the form that suits it.

    uvicorn's loggers are routed here as well, warnings and worse only; its access log is off. uvicorn compares
    its logger's *own* level with TRACE on every connection, so that level is set and not inherited.
    """
    out = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(out)
    handler.setFormatter(_Human() if out.isatty() else _JsonLines(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.asgi"):
        theirs = logging.getLogger(name)
        theirs.handlers.clear()
        theirs.propagate = True
        theirs.setLevel(logging.WARNING)
    access = logging.getLogger("uvicorn.access")
    access.handlers.clear()
    access.propagate = False
    access.disabled = True
    # Their informational lines carry URLs and payload sizes of every request.
    for name in ("httpx", "httpcore", "sse_starlette", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, _FIELDS, {})
    return fields


class _JsonLines(logging.Formatter):
    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        moment = dt.datetime.fromtimestamp(record.created, dt.UTC)
        line: dict[str, Any] = {
            "ts": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, separators=(",", ":"), ensure_ascii=False, default=str)


class _Human(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        clock = self.formatTime(record, "%H:%M:%S")
        fields = "".join(f" {key}={_plain(value)}" for key, value in _fields(record).items())
        level = record.levelname.lower()
        if colour := _COLOURS.get(record.levelno):
            level = f"\x1b[{colour}m{level}\x1b[0m"
        line = f"{clock} {level} {record.getMessage()}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _plain(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return json.dumps(text, ensure_ascii=False) if not text or " " in text or '"' in text else text
