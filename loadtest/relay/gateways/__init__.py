"""The gateways that the relay benchmark knows, in the order in which a round runs them."""

from __future__ import annotations

from loadtest.relay.gateways.base import Gateway
from loadtest.relay.gateways.direct import Direct
from loadtest.relay.gateways.haproxy import Haproxy
from loadtest.relay.gateways.headrace import Headrace
from loadtest.relay.gateways.litellm import Litellm
from loadtest.relay.gateways.naive import Naive
from loadtest.relay.gateways.nginx import Nginx
from loadtest.relay.gateways.routers import SglangRouter, VllmRouter

__all__ = ["all_gateways"]


def all_gateways() -> list[Gateway]:
    """Return every gateway, installed or not; nginx and Headrace stand side by side."""
    return [
        Direct(),
        Nginx(),
        Headrace(),
        Haproxy(),
        VllmRouter(),
        SglangRouter(),
        Naive("aiohttp"),
        Naive("httpx"),
        Litellm(),
    ]
