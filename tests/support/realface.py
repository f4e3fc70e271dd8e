"""A gateway with the real compositor and the real inference server behind it, for pages in a browser."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.inference import inference
from tests.support.processes import launch
from tests.support.rig import rig

__all__ = ["FaceSite", "real_face"]


@dataclass
class FaceSite:
    """Where it answers."""

    edge_url: str


@contextlib.contextmanager
def real_face(folder: Path, settings: str) -> Iterator[FaceSite]:
    """Run it for the length of the block.

    Args:
        folder: for its files.
        settings: the compositor's `headrace.toml`.
    """
    (folder / "mine.toml").write_text(settings)
    with inference(folder) as mouths:
        server = str(mouths.ready["url"]).removeprefix("grpc://")
        line = ["--config", "mine.toml", "--port", "0", "--ops-port", "0", "--inference", server]
        with launch("compositor", *line, folder=folder, name="compositor") as running:
            edge = {"avatars.compositor_url": str(running.ready()["url"]), "avatars.resume_ms": 1_000}
            with rig(folder, {"alpha": {}}, edge=edge) as found:
                yield FaceSite(found.url)
