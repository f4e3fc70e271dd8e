"""Avatars of one edge, put together; what is heavy is imported here, and only where avatars are configured."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from edge.avatars.settings import check_avatars
from edge.endpoints.parts import Parts
from edge.settings import EdgeSettings
from streamkit.ops import log
from streamkit.ops.settings import SettingsError
from streamkit.wire.ids import StreamIds

if TYPE_CHECKING:
    from edge.avatars.gallery import Gallery
    from edge.endpoints.avatars.surface import Avatars
    from edge.endpoints.avatars.whep import Whep

__all__ = ["avatars_of"]

_LOG = logging.getLogger("headrace.edge")
_OURS = ("edge", "streamkit")


def avatars_of(settings: EdgeSettings, parts: Parts, ids: StreamIds) -> Avatars | None:
    """Return the endpoints of avatars; None = there are none.

    Args:
        settings: the edge's.
        parts: what the endpoints need.
        ids: names sessions and viewers.

    Raises:
        SettingsError: the settings do not fit together, or a package is missing.
    """
    check_avatars(settings.avatars, settings.webrtc)
    if not settings.avatars.compositor_url:
        return None
    try:
        from edge.avatars.gallery import Gallery  # noqa: PLC0415
        from edge.avatars.link import CompositorLink  # noqa: PLC0415
        from edge.endpoints.avatars.surface import Avatars  # noqa: PLC0415

        link = CompositorLink(settings.avatars)
        gallery = Gallery(ids, link, settings.avatars, settings.webrtc.connect_ms / 1000, parts.metrics)
    except ModuleNotFoundError as error:
        text = f"edge.avatars: the package {_foreign(error)} is missing: pip install 'headrace[webrtc]'"
        raise SettingsError(text) from None
    whep = _whep(settings, parts, gallery) if settings.webrtc.enabled else None
    return Avatars(parts, gallery, whep, sdp_bytes=settings.webrtc.sdp_bytes)


def _whep(settings: EdgeSettings, parts: Parts, gallery: Gallery) -> Whep | None:
    """Return viewers over WebRTC; None where its packages are missing: then avatars come over WebSocket alone."""
    try:
        from edge.endpoints.avatars.whep import Whep  # noqa: PLC0415
    except ModuleNotFoundError as error:
        detail = f"{_foreign(error)} is missing, so avatars come over WebSocket: pip install 'headrace[webrtc]'"
        log.event(_LOG, "avatars.no_webrtc", level=logging.WARNING, detail=detail)
        return None
    return Whep(parts, gallery, settings.webrtc)


def _foreign(error: ModuleNotFoundError) -> str:
    """Return the name of a package that is not installed; a module of ours that is not there is raised again."""
    if error.name is None or error.name.split(".")[0] in _OURS:
        raise error
    return error.name
