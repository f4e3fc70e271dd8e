"""What the avatar services need on this machine, and which extra brings it."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from streamkit.ops import settings

if TYPE_CHECKING:
    from compositor.settings import AvatarSettings
    from launch.configuration import Configuration
    from launch.detect import Finding

__all__ = ["avatars_of", "findings", "joined", "missing_extras", "voiceless"]

#: A module, and the extra that installs it. `onnx` makes the reference models.
_NEEDED: Final = {
    "grpc": "inference",
    "numpy": "inference",
    "yaml": "inference",
    "av": "compositor",
    "onnxruntime": "cpu",
    "onnx": "models",
}


def missing_extras() -> tuple[str, ...]:
    """Return the extras that the avatar services lack here."""
    lacking = (extra for module, extra in _NEEDED.items() if importlib.util.find_spec(module) is None)
    return tuple(dict.fromkeys(lacking))


def findings(*, wanted: bool) -> list[Finding]:
    """Return what to tell of a machine on which avatars are wanted and cannot run."""
    from launch.detect import Finding  # noqa: PLC0415  a service that reads its settings loads no HTTP client

    missing = missing_extras() if wanted else ()
    note = f"no avatar: pip install 'headrace[{','.join(missing)}]', or --no-avatar"
    return [Finding(None, "avatar", note=note)] if missing else []


def voiceless(found: Configuration) -> list[str]:
    """Return what keeps avatars from speaking, a line each; they move to sound that is sent to them all the same."""
    if found.compositor is None:
        return []
    from compositor.speech.settings import SpeechSettings  # noqa: PLC0415  a service loads only itself

    speech = found.speech or SpeechSettings()
    told = []
    if speech.openai_key_env and not os.environ.get(speech.openai_key_env):
        told.append(f"speech: the environment here has no {speech.openai_key_env}; that server has no voice then")
    espeak = speech.espeak and importlib.util.find_spec("espeakng_loader") is not None
    if not espeak and not speech.openai_url:
        told.append("avatars have no voice: pip install 'headrace[speech]', or set openai_url in [speech]")
    return told


def avatars_of(tables: dict[str, Any], where: str) -> tuple[AvatarSettings, ...]:
    """Return the `[[avatars]]` of a file, or the drawn face where it has none.

    Args:
        tables: of the file.
        where: its name, for messages.

    Raises:
        SettingsError: one of them cannot be used.
    """
    from compositor.settings import AvatarSettings, with_avatars  # noqa: PLC0415  a service loads only itself

    found = settings.convert(tables.get("avatars", []), list[AvatarSettings], where, key="avatars")
    return with_avatars(tuple(found), where)


def joined(plan: Configuration, url_of: Callable[[str, str, int], str | None]) -> Configuration:
    """Return a plan whose compositor knows our own inference server, and whose edge our own compositor.

    Args:
        plan: what runs; an address that is configured stays.
        url_of: where a service answers, by name, host and port; None = not known yet.
    """
    compositor, inference, edge = plan.compositor, plan.inference, plan.edge
    if compositor is None:
        return plan
    if inference is not None and compositor.inference == type(compositor)().inference:
        mouths = url_of("inference", inference.host, inference.port)
        if mouths:
            compositor = msgspec.structs.replace(compositor, inference=mouths.partition("://")[2])
    faces = url_of("compositor", compositor.host, compositor.port)
    if faces and not edge.avatars.compositor_url and not compositor.tls_cert_file:
        wanted = msgspec.structs.replace(edge.avatars, compositor_url=f"grpc://{faces.partition('://')[2]}")
        edge = msgspec.structs.replace(edge, avatars=wanted)
    return replace(plan, compositor=compositor, edge=edge)
