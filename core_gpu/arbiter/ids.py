"""Lease ids: 128 random bits, and a checksum that tells an id which was issued once from one that never was.

So a second release is a success and a made-up id is not, however long ago the lease ended, and nothing has to be
remembered for it. The id is the fencing identity: whoever has it may renew and release, nobody else.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path
from typing import Final

__all__ = ["LeaseIds", "key_of"]

_KEY_BYTES: Final = 32
_MAC_BYTES: Final = 8
_FORM: Final = re.compile(r"(?P<random>[0-9a-f]{32})-(?P<mac>[0-9a-f]{16})")


class LeaseIds:
    """Makes and checks ids.

    Args:
        key: 32 secret bytes that outlive a restart.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != _KEY_BYTES:
            raise ValueError(f"the lease-id key has {len(key)} bytes, it needs {_KEY_BYTES}")
        self._key = key

    def new(self) -> str:
        """Return a fresh id."""
        random = secrets.token_hex(16)
        return f"{random}-{self._mac(random)}"

    def issued(self, lease_id: str) -> bool:
        """Say whether this arbiter issued the id, in this life or an earlier one."""
        match = _FORM.fullmatch(lease_id)
        return match is not None and hmac.compare_digest(self._mac(match["random"]), match["mac"])

    def _mac(self, random: str) -> str:
        return hashlib.blake2s(random.encode(), key=self._key, digest_size=_MAC_BYTES).hexdigest()


def key_of(path: Path) -> bytes:
    """Return the key in the file at `path`, made there if need be, readable by its owner only."""
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        key = b""
    if len(key) != _KEY_BYTES:
        key = secrets.token_bytes(_KEY_BYTES)
        fresh = path.with_suffix(".new")
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(key)
        fresh.replace(path)
    return key
