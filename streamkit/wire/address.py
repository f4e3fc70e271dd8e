"""An address as people write it and URLs show it: HOST:PORT, an IPv6 host in brackets (RFC 3986 §3.2.2)."""

from __future__ import annotations

from typing import Final

__all__ = ["parsed", "place"]

_PORT_MAX: Final = 65_535


def place(host: str, port: int) -> str:
    """Return `host` and `port` as they stand in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parsed(text: str) -> tuple[str, int]:
    """Read HOST:PORT; port 0 is read as any other.

    Raises:
        ValueError: it is no such thing.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > _PORT_MAX:
        raise ValueError(f"expected HOST:PORT, such as 127.0.0.1:8000, got {text}")
    return host.removeprefix("[").removesuffix("]"), int(port)
