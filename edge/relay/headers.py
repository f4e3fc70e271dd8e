"""Request headers of one attempt."""

from __future__ import annotations

__all__ = ["Headers", "headers_of"]

Headers = tuple[tuple[bytes, bytes], ...]


def headers_of(shared: Headers, *, attempt: int, continues: bool, sim: bytes) -> Headers:
    """Return what is sent beyond the source's own headers.

    Args:
        shared: of all attempts of the request.
        attempt: its number, from 1.
        continues: it goes on with another engine's answer.
        sim: the client's `X-Sim`; empty = none, or the engine is no simulator.
    """
    if continues:
        # An engine that makes its id from ours must not make the same one twice.
        shared = tuple((n, v + b"-%d" % attempt if n == b"x-request-id" else v) for n, v in shared)
    return (*shared, (b"x-sim", sim), (b"x-sim-attempt", b"%d" % attempt)) if sim else shared
