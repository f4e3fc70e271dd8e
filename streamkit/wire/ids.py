"""Names of edge instances and streams.

An edge *instance* is `node.worker.incarnation`: one process life. A *stream id* is

    hs-<node>.<worker>.<incarnation>-<32 hex digits, random>-<16 hex digits, MAC>

so that any edge can see who owns a stream, and nobody can make one up: the MAC is keyed BLAKE2s over everything
before it. The owner's *address* never comes from the id, only from the registry. Avatar sessions (`ha-`) and their
viewers (`hv-`) are named in the same way; an id of one kind is none of another.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import socket
import time
from typing import Final, Literal, NamedTuple

__all__ = ["KEY_BYTES", "Instance", "Kind", "StreamIds", "node_name", "request_id", "valid_request_id"]

_NODE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_INSTANCE = re.compile(rf"(?P<node>{_NODE.pattern})\.(?P<worker>[0-9]{{1,4}})\.(?P<incarnation>[0-9a-f]{{1,16}})")
_ID = re.compile(
    rf"(?P<kind>h[sav])-(?P<instance>{_INSTANCE.pattern})-(?P<random>[0-9a-f]{{32}})-(?P<mac>[0-9a-f]{{16}})"
)
_REQUEST_ID = re.compile(r"[!-~]{1,128}")
_MAC_BYTES: Final = 8
KEY_BYTES: Final = 32
#: What an id names: a stream, an avatar session, a viewer of one.
Kind = Literal["hs", "ha", "hv"]
#: Control that was started anew may hand out another key, while streams of the old one are still open.
_KEYS: Final = 4


class Instance(NamedTuple):
    """One life of one edge worker."""

    node: str  #: `[a-z0-9-]`, at most 32 characters
    worker: int  #: 0-based
    incarnation: str  #: hex milliseconds of its start: later lives sort later

    def __str__(self) -> str:
        return f"{self.node}.{self.worker}.{self.incarnation}"

    @classmethod
    def parse(cls, text: str) -> Instance:
        """Return the instance that `text` names.

        Raises:
            ValueError: `text` is not `node.worker.incarnation`.
        """
        match = _INSTANCE.fullmatch(text)
        if match is None:
            raise ValueError(f"not an instance (node.worker.incarnation): {text!r}")
        return cls(match["node"], int(match["worker"]), match["incarnation"])

    @classmethod
    def new(cls, node: str, worker: int = 0) -> Instance:
        """Return a new life of `node`'s `worker`."""
        if _NODE.fullmatch(node) is None:
            raise ValueError(f"node must be 1-32 of a-z, 0-9 and '-', not {node!r}")
        return cls(node, worker, f"{time.time_ns() // 1_000_000:x}")


class StreamIds:
    """Makes and checks stream ids.

    Args:
        instance: the instance that new ids belong to.
        key: 32 secret bytes shared by the edges that may answer for each other.

    Raises:
        ValueError: the key has another length.
    """

    def __init__(self, instance: Instance, key: bytes) -> None:
        self.instance = instance
        self._keys: tuple[bytes, ...] = ()
        self.rekey(key)

    def rekey(self, key: bytes) -> None:
        """Make ids with `key` from now on; those of the last few keys are still good.

        Raises:
            ValueError: the key has not 32 bytes.
        """
        if len(key) != KEY_BYTES:
            raise ValueError(f"the stream-id key has {len(key)} bytes, it needs {KEY_BYTES}")
        self._keys = (key, *(known for known in self._keys if known != key))[:_KEYS]

    def new(self, kind: Kind = "hs") -> str:
        """Return a fresh id of this instance: 128 random bits and a MAC."""
        head = f"{kind}-{self.instance}-{secrets.token_hex(16)}"
        return f"{head}-{_mac(head, self._keys[0])}"

    def owner(self, stream_id: str, kind: Kind = "hs") -> Instance | None:
        """Return the instance that owns `stream_id`, or None for a malformed or forged id, or one of another kind."""
        match = _ID.fullmatch(stream_id)
        if match is None or match["kind"] != kind:
            return None
        head = stream_id[: -(2 * _MAC_BYTES + 1)]
        if not any(hmac.compare_digest(_mac(head, key), match["mac"]) for key in self._keys):
            return None
        return Instance(match["node"], int(match["worker"]), match["incarnation"])


def _mac(head: str, key: bytes) -> str:
    return hashlib.blake2s(head.encode(), key=key, digest_size=_MAC_BYTES).hexdigest()


def node_name() -> str:
    """Return this machine's name in the form that instances use."""
    name = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().lower())[:32].strip("-")
    return name or "edge"


def request_id() -> str:
    """Return a new request id: 32 hex digits, as vLLM makes them."""
    return secrets.token_hex(16)


def valid_request_id(text: str) -> bool:
    """Say whether a client's `X-Request-Id` may be echoed and logged: 1-128 visible ASCII characters."""
    return _REQUEST_ID.fullmatch(text) is not None
