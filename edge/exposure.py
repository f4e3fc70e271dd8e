"""May this edge listen where it was told to? Beyond loopback only where keys are demanded (design §9).

What is asked here is asked once, before anything listens, so that a person gets a sentence and not an open gateway.
While it runs, `Access` lets nobody in beyond loopback without a key, whatever control says.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from time import monotonic
from typing import Final

import msgspec

from edge.avatars.settings import beyond_loopback, check_avatars
from edge.settings import EdgeSettings
from streamkit.ops import log
from streamkit.ops.exposure import is_loopback, secret_from
from streamkit.ops.http_client import HttpClient, HttpError, Response
from streamkit.ops.settings import SettingsError
from streamkit.ops.tls import ServerTls, trusting
from streamkit.wire.ids import Instance, node_name
from streamkit.wire.state import EdgeReport, Header, Snapshot, SyncRequest
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["check_exposure", "control_headers", "control_trust", "exposed_at"]

_LOG = logging.getLogger("headrace.edge")
#: Control may be starting at the same time.
_PATIENCE_S: Final = 5.0
_AGAIN_S: Final = 0.2
_ANSWER_MS: Final = 2_000


def control_headers(settings: EdgeSettings) -> tuple[tuple[str, str], ...]:
    """Return what calls to control carry: the secret that it may demand.

    Raises:
        SettingsError: the environment has no such secret.
    """
    secret = secret_from(settings.control_secret_env, "edge.control_secret_env")
    return (("authorization", f"Bearer {secret}"),) if secret else ()


def control_trust(settings: EdgeSettings) -> ssl.SSLContext | None:
    """Return whom calls to control trust; None = the system's authorities.

    Raises:
        SettingsError: the file cannot be used, or control is not asked over TLS.
    """
    if not settings.control_ca:
        return None
    if not settings.control_url.startswith("https://"):
        raise SettingsError(f"control_ca: is for an https:// control_url, got {settings.control_url}")
    return trusting(settings.control_ca, "control_ca")


def exposed_at(settings: EdgeSettings) -> str:
    """Return where this edge is reached from beyond its machine, as a setting and its value; empty = nowhere."""
    if not is_loopback(settings.host):
        return f"host: {settings.host}"
    media = beyond_loopback(settings.avatars, settings.webrtc)
    return f"webrtc.addresses: {media[0]}" if media else ""


def check_exposure(settings: EdgeSettings) -> None:
    """Return if this edge may start. A control that does not answer in time changes nothing: nobody is let in.

    Raises:
        SettingsError: it would listen beyond this machine, and no key was ever made; control refuses it; or a file
            for TLS cannot be used.
    """
    headers, trust = control_headers(settings), control_trust(settings)
    if (files := settings.tls_files()).named:
        ServerTls(files)
    check_avatars(settings.avatars, settings.webrtc)
    where = exposed_at(settings)
    if not where:
        return
    answer = asyncio.run(_asked(settings, headers, trust))
    if answer is None:
        detail = "control does not answer yet: until it does, nobody is let in"
        log.event(_LOG, "edge.keys_unknown", level=logging.WARNING, detail=detail)
    elif answer.status == 401:
        raise SettingsError(
            "control refuses this edge: name the variable with its secret in edge.control_secret_env"
            " (control has it in control.edge_secret_env)"
        )
    elif answer.status == 200 and not _demanded(answer):
        raise SettingsError(
            f"{where} is reached from beyond this machine, and there are no keys yet; make one where"
            " control runs (headrace keys create --tenant NAME), or listen on 127.0.0.1"
        )


def _demanded(answer: Response) -> bool:
    try:
        return msgspec.json.decode(answer.body, type=Snapshot).keys.required
    except UNREADABLE as error:
        raise SettingsError(f"control_url: what answers there is no control: {error}") from None


async def _asked(
    settings: EdgeSettings, headers: tuple[tuple[str, str], ...], trust: ssl.SSLContext | None
) -> Response | None:
    """Return control's answer to a sync; None = there was none in time."""
    instance = str(Instance.new(settings.node or node_name()))
    # Draining: it must not be taken for an edge that has a share of the work.
    report = EdgeReport(header=Header(instance=instance, sequence=0), draining=True)
    question = msgspec.json.encode(SyncRequest(edge=report))
    until = monotonic() + _PATIENCE_S
    async with HttpClient(tls=trust) as http:
        while True:
            try:
                url = settings.control_url.rstrip("/") + "/v1/sync"
                return await http.post_json(url, question, timeout_ms=_ANSWER_MS, headers=headers)
            except HttpError:
                if monotonic() > until:
                    return None
                await asyncio.sleep(_AGAIN_S)
