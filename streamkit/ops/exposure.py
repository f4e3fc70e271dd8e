"""Who can reach an address: the question that decides whether a service may start without keys (design §9)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import ip_address

from streamkit.ops.settings import SettingsError

__all__ = ["is_loopback", "secret_from"]


def is_loopback(host: str) -> bool:
    """Say whether `host` is reached from this machine only; a name other than `localhost` is not trusted to be."""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def secret_from(name: str, key: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return the secret in the environment variable `name`; empty where no variable is named.

    Args:
        name: of the variable.
        key: the setting that names it, for the message.
        environment: where it is looked up.

    Raises:
        SettingsError: the variable is not set, is empty, or holds what no header can carry.
    """
    if not name:
        return ""
    secret = environment.get(name, "")
    if not secret:
        raise SettingsError(f"{key}: the environment has no {name}")
    if not (secret.isascii() and secret.isprintable()) or " " in secret:
        raise SettingsError(f"{key}: the value of {name} must be visible ASCII characters, without spaces")
    return secret
