"""Where a backend may be said to answer: what is wrong with its `url`, in words for a person."""

from __future__ import annotations

from urllib.parse import urlsplit

from streamkit.wire.backend import Backend

__all__ = ["foreign", "unanswerable"]


def unanswerable(url: str) -> str | None:
    """Return why nobody could answer at `url`, or None."""
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        return "expected no credentials here (name them with api_key_env)"
    try:
        number = parts.port
    except ValueError:
        return "expected a port from 1 to 65535"
    if number == 0:
        return "expected a port from 1 to 65535"
    if not parts.hostname:
        return "expected a host name or address"
    if parts.hostname in ("0.0.0.0", "::"):  # noqa: S104  refused
        return "expected an address to connect to (127.0.0.1 for this machine)"
    if parts.path.rstrip("/").endswith("/v1"):
        return "expected the base address, without /v1"
    return None


def foreign(backend: Backend) -> str | None:
    """Return why the engine does not speak at such a URL, or None."""
    grpc = backend.url.startswith("grpc")
    if backend.engine == "tfserving" and not grpc:
        return "expected its gRPC port, grpc://host:8500"
    if grpc and backend.engine not in ("tfserving", "inference"):
        return "expected http:// or https://"
    return None
