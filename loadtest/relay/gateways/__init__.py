"""The gateways that the relay benchmark knows, in the order in which a round runs them."""

from __future__ import annotations

import os
from pathlib import Path

from loadtest.relay.gateways.base import Gateway
from loadtest.relay.gateways.direct import Direct
from loadtest.relay.gateways.haproxy import Haproxy
from loadtest.relay.gateways.headrace import BEFORE, Headrace
from loadtest.relay.gateways.litellm import Litellm
from loadtest.relay.gateways.naive import Naive
from loadtest.relay.gateways.nginx import Nginx
from loadtest.relay.gateways.routers import SglangRouter, VllmRouter

__all__ = ["all_gateways"]


def all_gateways() -> list[Gateway]:
    """Return every gateway, installed or not; nginx and both of Headrace's ways stand side by side."""
    checkout = os.environ.get(BEFORE)
    before = [Headrace(checkout=Path(checkout).resolve())] if checkout else []
    return [
        Direct(),
        Nginx(),
        Headrace(),
        Headrace(websocket=True),
        *before,
        Haproxy(),
        VllmRouter(),
        SglangRouter(),
        Naive("aiohttp"),
        Naive("httpx"),
        Litellm(),
    ]
