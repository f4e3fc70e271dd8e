"""One viewer's peer connection: an offer in, an answer out, packets passed through, one data channel."""

from __future__ import annotations

import asyncio
import logging
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final

from aiortc import (
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.codecs import CODECS
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.rtcpeerconnection import find_common_codecs
from aiortc.sdp import SessionDescription, candidate_from_sdp
from av import AudioFrame

from edge.avatars.viewer import Viewer
from edge.protocol.sdp import Fragment, Offer, with_addresses
from edge.webrtc import hooks
from edge.webrtc.channel import Channel
from edge.webrtc.ice import bind_to
from edge.webrtc.reports import Reports
from edge.webrtc.tracks import Passing, audio_of, video_of
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["Addresses", "Peer", "codecs_of"]

_LOG = logging.getLogger("headrace.edge.webrtc")
_RATE: Final = 48_000
#: What a farewell may take on its way out.
_CLOSE_S: Final = 3.0
_FORGET_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where media is sent from, and what it is called outside."""

    bind: Sequence[str]
    ports: range
    public: Sequence[str] = ()
    #: A TURN server for this side: address, username, credential.
    relay: tuple[str, str, str] | None = None


def codecs_of(offer: Offer) -> tuple[frozenset[str], bool]:
    """Return the names of the video codecs that an offer and aiortc have in common, and whether it takes Opus.

    Raises:
        HeadraceError: INVALID_REQUEST; the library cannot read the offer.
    """
    video: frozenset[str] = frozenset()
    opus = False
    for media in _parsed(offer.text).media:
        if media.kind in CODECS:
            common = find_common_codecs(CODECS[media.kind], media.rtp.codecs)
            names = frozenset(codec.name.lower() for codec in common)
            if media.kind == "video":
                video = names
            else:
                opus = "opus" in names
    return video, opus


def _parsed(text: str) -> SessionDescription:
    try:
        found = SessionDescription.parse(text)
        for media in found.media:
            if media.dtls is None or not media.dtls.fingerprints:
                raise ValueError("a section has no `a=setup:` or no `a=fingerprint:`")
            if media.ice is None or not media.ice.usernameFragment or not media.ice.password:
                raise ValueError("a section has no `a=ice-ufrag:` or no `a=ice-pwd:`")
    except Exception as exc:  # noqa: BLE001  the library's parser raises whatever its lines run into
        what = str(exc) if type(exc) is ValueError and str(exc).startswith("a section") else "it is malformed"
        text = f"The session description cannot be read: {what}."
        raise HeadraceError(Code.INVALID_REQUEST, text, param="body") from None
    return found


class Peer:
    """A connection to one viewer.

    Args:
        viewer: what is sent comes from its backlog.
        addresses: of media.
        message_bytes: largest message of the data channel.
        unsent_bytes: high mark of the data channel.
        on_message: takes a message of the viewer.
        on_sound: takes sound of a microphone: 16 bit mono at 48 kHz; None = none is wanted.
        on_resume: the data channel is under its low mark again.
        on_connected: media can flow.
    """

    def __init__(
        self,
        viewer: Viewer,
        addresses: Addresses,
        *,
        message_bytes: int,
        unsent_bytes: int,
        on_message: Callable[[bytes], None],
        on_sound: Callable[[bytes], None] | None,
        on_resume: Callable[[], None],
        on_connected: Callable[[], None],
    ) -> None:
        self.viewer = viewer
        self._addresses = addresses
        self._on_sound = on_sound
        self._on_connected = on_connected
        servers = [RTCIceServer(*addresses.relay, "password")] if addresses.relay is not None else []
        # Never the library's own servers: it would ask one of somebody else's for every answer.
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        self.channel = Channel(message_bytes, unsent_bytes, on_message=on_message, on_resume=on_resume)
        self._video = Passing("video", lambda: video_of(viewer.backlog))
        self._audio = Passing("audio", lambda: audio_of(viewer.backlog))
        self._reports = Reports()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing: asyncio.Task[None] | None = None
        #: Names one ICE generation; there is only one (RFC 9725 §4.3.1).
        self.ufrag = ""
        self.their_ufrag = ""
        viewer.on_news = self._news
        viewer.on_tell = self.channel.send
        viewer.on_close = self._close
        self._pc.on("connectionstatechange", self._changed)
        self._pc.on("datachannel", self._opened)
        self._pc.on("track", self._tracked)

    async def answer(self, offer: Offer, codec: str | None) -> str:
        """Return the answer to an offer.

        Args:
            offer: what the viewer sent.
            codec: of its pictures; None = it takes sound only.

        Raises:
            HeadraceError: the offer cannot be answered.
        """
        pc = self._pc
        video, audio = offer.of("video"), offer.of("audio")
        if video is not None and codec is not None:
            self._send(self._video, codec, sound=False)
        if audio is not None:
            wanted = self._on_sound is not None and audio.direction == "sendrecv"
            self._send(self._audio, "opus", sound=wanted)
        try:
            await pc.setRemoteDescription(RTCSessionDescription(sdp=offer.text, type="offer"))
            for connection in hooks.ice_connections(pc):
                bind_to(connection, self._addresses.bind, self._addresses.ports)
            hooks.on_heard(pc, self.viewer.heard)
            hooks.in_one_stream(pc)
            await pc.setLocalDescription()
        except HeadraceError:
            raise
        except Exception as exc:  # noqa: BLE001  as the parser, the library raises what it runs into
            _LOG.debug("an offer could not be answered", exc_info=exc)
            text = "The session description cannot be answered: its sections do not fit together."
            raise HeadraceError(Code.INVALID_REQUEST, text, param="body") from None
        for transceiver in pc.getTransceivers():
            wanted_codec = codec if transceiver.kind == "video" else "opus"
            if hooks.sending_codec(transceiver) != (wanted_codec or "").upper():
                # Packets of one codec under the name of another are never decoded, and look like a loss.
                raise HeadraceError(Code.INTERNAL, f"The {transceiver.kind} codec was not agreed on.")
        self.their_ufrag = next(
            (line[12:] for line in offer.text.split("\r\n") if line.startswith("a=ice-ufrag:")), ""
        )
        self.ufrag = next((one.local_username for one in hooks.ice_connections(pc)), "")
        return with_addresses(pc.localDescription.sdp, self._addresses.public)

    async def add(self, fragment: Fragment) -> None:
        """Take candidates that came later; one that cannot be used is passed over."""
        for mid, text in fragment.candidates:
            try:
                candidate = candidate_from_sdp(text)
                candidate.sdpMid = mid
                await self._pc.addIceCandidate(candidate)
            except (AssertionError, ValueError, IndexError) as exc:
                _LOG.debug("a candidate was passed over: %s", exc)

    @property
    def sections(self) -> frozenset[str]:
        """Names of the sections that were agreed on."""
        mids = {one.mid for one in self._pc.getTransceivers()}
        if self._pc.sctp is not None:
            mids.add(self._pc.sctp.mid)
        return frozenset(mid for mid in mids if mid)

    async def closed(self) -> None:
        """Wait until nothing of it runs."""
        if self._closing is not None:
            await asyncio.gather(self._closing, return_exceptions=True)

    # Inside

    def _send(self, track: Passing, codec: str, *, sound: bool) -> None:
        pc = self._pc
        sender = pc.addTrack(track)
        time_of = self._reports.time_of
        track.on_sent = lambda media_s: hooks.say_time(sender, lambda sent: time_of(media_s, sent))
        transceiver = next(one for one in pc.getTransceivers() if one.sender is sender)
        # Before the remote description, or it is ignored without a word.
        capabilities = RTCRtpSender.getCapabilities(track.kind).codecs
        transceiver.setCodecPreferences(
            [one for one in capabilities if one.mimeType.lower() in (f"{track.kind}/{codec}", f"{track.kind}/rtx")]
        )
        # A viewer's pictures would be decoded here; nobody wants them.
        transceiver.direction = "sendrecv" if sound else "sendonly"
        if track.kind == "video":
            hooks.on_keyframe_request(sender, self.viewer.keyframe)
            hooks.on_remb(sender, lambda bits_per_s: self.viewer.session.estimated(self.viewer, bits_per_s))
            hooks.limit_repeats(sender, lambda size: self.viewer.bandwidth.may_repeat(size, monotonic()))
            hooks.on_loss(sender, lambda share: self.viewer.session.lost(self.viewer, share))

    def _news(self) -> None:
        self._video.wake()
        self._audio.wake()

    def _changed(self) -> None:
        state = self._pc.connectionState
        if state == "connected" and not self.viewer.connected:
            self._on_connected()
            self.viewer.reached()
        elif state in ("failed", "closed"):
            self.viewer.close()

    def _opened(self, channel: RTCDataChannel) -> None:
        if self.channel.take(channel, self.viewer.heard):
            self.viewer.welcome()
        else:
            channel.close()

    def _tracked(self, track: MediaStreamTrack) -> None:
        if track.kind == "audio" and self._on_sound is not None:
            task = asyncio.get_running_loop().create_task(self._listen(track, self._on_sound), name="microphone")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _listen(self, track: MediaStreamTrack, on_sound: Callable[[bytes], None]) -> None:
        try:
            while True:
                frame = await track.recv()
                if not isinstance(frame, AudioFrame) or frame.sample_rate != _RATE or frame.format.name != "s16":
                    continue
                channels = len(frame.layout.channels)
                samples = array("h", bytes(frame.planes[0])[: frame.samples * channels * 2])
                on_sound(samples[::channels].tobytes())
        except MediaStreamError:
            return

    def _close(self, error: HeadraceError | None) -> None:
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._end(error), name="close a viewer")

    async def _end(self, error: HeadraceError | None) -> None:
        try:
            async with asyncio.timeout(_CLOSE_S):
                if error is not None:
                    await self.channel.farewell(error)
                await self._pc.close()
        except TimeoutError:
            _LOG.warning("a peer connection did not close within %g s", _CLOSE_S)
        except Exception:  # noqa: BLE001  the task's outermost frame
            _LOG.exception("a peer connection failed while it closed")
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Once the loop has told the sockets that they are closed.
        asyncio.get_running_loop().call_later(_FORGET_S, self._forget)

    def _forget(self) -> None:
        """Let go of everything that knows us."""
        hooks.forget(self._pc)
        self.channel.forget()
        self.viewer.release()
        for track in (self._video, self._audio):
            vars(track).clear()
