"""One codec of a session: when it follows the shared idle loop, when it encodes itself, and when a keyframe is due.

No thread and no socket in here: `plan` says what to do for a tick, whoever encodes does it.
"""

from __future__ import annotations

import enum

from compositor.encode.encoder import Encoded, Encoder
from compositor.encode.loops import Loop

__all__ = ["Plan", "Track"]


class Plan(enum.Enum):
    """What a codec does in a tick."""

    LOOP = "loop"
    LIVE = "live"
    LIVE_KEY = "live_key"


class Track:
    """One codec's state.

    Args:
        codec: its number.
        bitrate_bps: wanted.
        keyframe_ticks: requests for keyframes closer together become one.
        rest_ticks: an encoder that was not used for so long is closed.
    """

    def __init__(self, codec: int, bitrate_bps: int, *, keyframe_ticks: int, rest_ticks: int) -> None:
        self.codec = codec
        self.bitrate_bps = bitrate_bps
        self.encoder: Encoder | None = None
        #: The shared idle loop, once it is there.
        self.loop: Loop | None = None
        self._keyframe_ticks = keyframe_ticks
        self._rest_ticks = rest_ticks
        self._wanted = True
        self._broken = True
        self._following = False
        self._key_tick = -keyframe_ticks
        self._live_tick = 0

    def want_keyframe(self) -> None:
        """Take a viewer's request."""
        self._wanted = True

    def left_out(self, *, room: bool) -> None:
        """Note that a tick had no picture: a loop's next one would need it, an encoder's own does not know of it.

        Args:
            room: False = because the viewers did not keep up: a keyframe follows, as if they had asked for one.
        """
        self._broken |= self._following
        self._wanted |= not room

    def plan(self, tick: int, position: int, *, idle: bool) -> Plan:
        """Return what to do.

        Args:
            tick: its number.
            position: of the template.
            idle: whether the face is as the loop has it.
        """
        loop = self.loop
        due = self._broken or (self._wanted and tick - self._key_tick >= self._keyframe_ticks)
        if idle and loop is not None and loop.bitrate_bps <= self.bitrate_bps:
            unit = loop.unit(position)
            if unit.keyframe or (self._following and not due):
                return Plan.LOOP
        if due or self._following or self.encoder is None:
            return Plan.LIVE_KEY
        return Plan.LIVE

    def looped(self, tick: int, position: int) -> Encoded:
        """Return the loop's access unit, and follow the loop from now on."""
        if self.loop is None:
            raise RuntimeError("there is no loop")
        unit = self.loop.unit(position)
        self._following = True
        self._note(tick, keyframe=unit.keyframe)
        if self.encoder is not None and tick - self._live_tick > self._rest_ticks:
            self.close()
        return unit

    def encoded(self, tick: int, unit: Encoded) -> None:
        """Note what the encoder of its own gave."""
        self._following = False
        self._live_tick = tick
        self._note(tick, keyframe=unit.keyframe)

    def retune(self, bitrate_bps: int) -> None:
        """Aim at another bitrate; an encoder that cannot is opened anew, which begins with a keyframe."""
        if bitrate_bps == self.bitrate_bps:
            return
        self.bitrate_bps = bitrate_bps
        if self.encoder is not None and not self.encoder.retune(bitrate_bps):
            self.close()

    def close(self) -> None:
        """Let go of the encoder."""
        encoder, self.encoder = self.encoder, None
        if encoder is not None:
            encoder.close()

    def _note(self, tick: int, *, keyframe: bool) -> None:
        if keyframe:
            self._key_tick = tick
            self._wanted = self._broken = False
