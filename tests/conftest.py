"""Fixtures for every suite."""

from __future__ import annotations

import pytest

from tests.support.gateway import gateway

__all__ = ["anyio_backend", "gateway"]


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Every `@pytest.mark.anyio` test runs on both event loops."""
    return request.param
