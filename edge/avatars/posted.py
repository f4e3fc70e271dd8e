"""Sound that is posted to a session: one at a time, and its bytes are charged while it is given."""

from __future__ import annotations

import logging
from collections.abc import Coroutine

from edge.avatars.session import Session
from streamkit.flow.budget import Account
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["posted"]

_LOG = logging.getLogger("headrace.edge.avatars")


def posted(
    session: Session, sound: Coroutine[None, None, None], size: int, account: Account
) -> Coroutine[None, None, None]:
    """Return what gives a session posted sound; run it.

    Args:
        session: that it drives.
        sound: gives it.
        size: bytes that are held meanwhile.
        account: charged with them.

    Raises:
        HeadraceError: SATURATED; another one is under way. OUT_OF_MEMORY.
    """
    if session.playing:
        sound.close()
        text = "Another sound is being given to this session; post this one when it is done, or interrupt first."
        raise HeadraceError(Code.SATURATED, text)
    if not account.reserve(size):
        sound.close()
        raise HeadraceError(Code.OUT_OF_MEMORY, "The gateway's memory budget is used up. Try again shortly.")
    session.playing = True

    async def given() -> None:
        try:
            await sound
        except HeadraceError:
            _LOG.debug("a posted sound outlived its session")
        finally:
            session.playing = False
            account.release(size)

    return given()
