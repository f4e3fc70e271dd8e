"""Fixtures for every suite."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway import gateway

__all__ = ["anyio_backend", "gateway", "logging_as_it_was"]

_ASYNCIO = ("asyncio", {"use_uvloop": False})
_INTEGRATION = Path(__file__).parent / "integration"
_LOGGERS = (
    "uvicorn",
    "uvicorn.error",
    "uvicorn.asgi",
    "uvicorn.access",
    "httpx",
    "httpcore",
    "sse_starlette",
    "asyncio",
)


# A shell's background job is born deaf to Ctrl-C, and so would be every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# And what nohup started is deaf to hangups. A handler is ours alone: what we start has the system's own again.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.fixture(
    params=[
        pytest.param(_ASYNCIO, id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Every `@pytest.mark.anyio` test runs on both event loops."""
    return request.param


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole services run on uvloop; that they run on asyncio's own loop as well is asked by `make test-loops`."""
    for item in items:
        call = getattr(item, "callspec", None)
        if _INTEGRATION in item.path.parents and call is not None and call.params.get("anyio_backend") == _ASYNCIO:
            item.add_marker(pytest.mark.loops)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A test that runs a service in this process must not leave a handler whose stream pytest has closed by then."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, was in levels.items():
        logging.getLogger(name).setLevel(was)
    access = logging.getLogger("uvicorn.access")
    access.disabled, access.propagate = False, True
