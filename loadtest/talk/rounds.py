"""One conversation: a viewer comes, asks, is answered aloud, and has enough of it."""

from __future__ import annotations

import asyncio
import re
from itertools import pairwise
from time import monotonic
from typing import Any, Final

import msgspec

from loadtest.soak.faces import AVATAR
from loadtest.talk.viewer import Media, Viewer, ViewerError, until

__all__ = ["Round", "talked"]

MODEL: Final = "sim-chat"
#: Long enough that it is still being spoken when it is interrupted, at 25 ms a token.
_TOKENS: Final = 400
#: A voice's rests are below it, and its vowels far above.
_LOUD: Final = 0.01
#: Speech before the interruption.
_LISTEN_S: Final = 2.0
#: What is stale would have come by then.
_WATCH_S: Final = 1.5
#: The least by which an open mouth is darker than a shut one, of 255.
_OPENS: Final = 20.0
#: At rest, before anything is asked.
_REST_S: Final = 1.0
_SPACE: Final = re.compile(r"\s+")


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """Times in ms, at the viewer."""

    #: From the answer to its offer to a whole picture that decodes.
    first_picture_ms: float
    #: From its question to the first token.
    first_token_ms: float
    #: To the first sound that is loud, from the token that ends the first sentence, and from the one that makes that
    #: certain, which is the next.
    sound_after_sentence_ms: float
    sound_after_certain_ms: float
    #: From the first sound to the answer's end, or to its interruption: it was spoken while it came.
    sound_before_end_ms: float
    #: From the interruption to the last open mouth, and the last loud sound; 0 = none came.
    stale_picture_ms: float
    stale_sound_ms: float


async def talked(edge_url: str, seed: int) -> Round:
    """Have one conversation.

    Args:
        edge_url: of the edge.
        seed: of the answer's text.

    Raises:
        ViewerError: something did not come, or is not what was asked for.
        httpx.HTTPError: the viewer is refused.
    """
    async with Viewer(edge_url, AVATAR) as viewer:
        first_picture_s = min(at_s for at_s, _ in viewer.pictures.found())
        # Idle until all of the way is warm: a first sentence is not what it is when the process has just begun.
        await asyncio.sleep(_REST_S)
        shut = max(level for _, level in viewer.pictures.found(monotonic() - _REST_S / 2))
        question = [{"role": "user", "content": "Tell me of the river."}]
        chat = {"model": MODEL, "stream": True, "messages": question, "seed": seed}
        asked_s = monotonic()
        viewer.say(type="chat.start", id="talk", request=chat, sim=f"tokens={_TOKENS}")
        await until(lambda: bool(_loud(viewer.sounds, asked_s)), "the first sound of speech")
        first_sound_s = min(_loud(viewer.sounds, asked_s))
        sentence_s, certain_s = _sentence(viewer)
        await asyncio.sleep(_LISTEN_S)
        wide = max(level for _, level in viewer.pictures.found(asked_s))
        if wide < shut + _OPENS:
            raise ViewerError(f"the mouth does not open: it is {wide:.0f} dark, and {shut:.0f} where it is shut")
        # Not in a pause: the newest that is decoded is loud. (The receiver holds four packets back.)
        await until(lambda: viewer.sounds.found()[-1][1] > _LOUD, "another word")
        viewer.say(type="interrupt")
        hushed_s = monotonic()
        ended_s = min((at_s for at_s, _ in viewer.of("done")), default=hushed_s)
        await until(lambda: bool(viewer.of("interrupted")), "word that it was interrupted")
        await asyncio.sleep(_WATCH_S)
        open_mouth = [at_s for at_s, level in viewer.pictures.found(hushed_s) if level > shut + (wide - shut) / 4]
        stale_sounds = _loud(viewer.sounds, hushed_s)
        return Round(
            first_picture_ms=_ms(first_picture_s - viewer.answered_s),
            first_token_ms=_ms(viewer.of("event")[0][0] - asked_s),
            sound_after_sentence_ms=_ms(first_sound_s - sentence_s),
            sound_after_certain_ms=_ms(first_sound_s - certain_s),
            sound_before_end_ms=_ms(ended_s - first_sound_s),
            stale_picture_ms=_ms(max(open_mouth, default=hushed_s) - hushed_s),
            stale_sound_ms=_ms(max(stale_sounds, default=hushed_s) - hushed_s),
        )


def _loud(sounds: Media, since_s: float) -> list[float]:
    return [at_s for at_s, level in sounds.found(since_s) if level > _LOUD]


def _sentence(viewer: Viewer) -> tuple[float, float]:
    """Return when the token came that ends the first sentence, and the one after it."""
    sentence = _SPACE.sub("", str(viewer.of("speech")[0][1]["text"]))
    text = ""
    events = [(at_s, piece) for at_s, message in viewer.of("event") if (piece := _piece(message))]
    for (at_s, piece), (next_s, _) in pairwise(events):
        text += _SPACE.sub("", piece)
        if sentence in text:
            return at_s, next_s
    raise ViewerError(f"{sentence!r} is spoken, and is not in the answer")


def _piece(message: dict[str, Any]) -> str:
    choices = message["data"].get("choices") or [{}]
    return choices[0].get("delta", {}).get("content") or ""


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
