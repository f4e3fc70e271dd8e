"""What each image is started with in tests, and its packages without an installation."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path
from typing import Final, NamedTuple

from packaging.requirements import Requirement

__all__ = ["LOCKS", "STARTS", "Start", "view"]

LOCKS: Final = Path(__file__).parents[2] / "docker/locks"


class Start(NamedTuple):
    """How an image's service is started."""

    command: str
    #: Its configuration.
    text: str
    #: The page by which its health is asked.
    page: str = "/healthz"
    #: In its log once it has used what it loads late.
    says: str = ""


_INFERENCE: Final = """[inference]
port = 0
ops_port = 0
[inference.models.mouth]
model_path = "reference:mouth"
preload = true
"""
#: By the name of the image's lock.
STARTS: Final = {
    "arbiter": Start(
        "arbiter", '[arbiter]\ninventory = "static"\nstate_dir = "state"\nport = 0\nops_port = 0\n'
    ),
    "compositor": Start("compositor", "[compositor]\nport = 0\nops_port = 0\n"),
    "control": Start("control", '[control]\nport = 0\nops_port = 0\nstore_path = "keys.db"\n'),
    "edge": Start(
        "edge",
        '[edge]\nport = 0\nops_port = 0\ntraces_url = "http://127.0.0.1:9/v1/traces"\n'
        'avatars.compositor_url = "grpc://127.0.0.1:9"\n',
    ),
    "inference": Start("inference", _INFERENCE, says="inference.loaded"),
    "inference-gpu": Start("inference", _INFERENCE, says="inference.loaded"),
    "observe": Start(
        "observe", '[observe]\nport = 0\nops_port = 0\nstate_dir = "state"\nnats_url = "nats://127.0.0.1:9"\n'
    ),
    # A simulator's ops page is its engine's own.
    "simulator": Start(
        "simulate", '[simulator]\nport = 0\nengine = "tfserving"\n', "/v1/models/sim-chat"
    ),
}  # fmt: skip
#: What the recipe takes out again.
_BUILDERS: Final = frozenset({"hatchling", "editables"})


def view(lock: Path, folder: Path) -> Path:
    """Return a folder with the packages of an image's lock and no others, as links into this environment.

    The GPU's ONNX Runtime and NVIDIA's libraries are not here: the CPU's, which is the same module, stands in.

    Raises:
        AssertionError: this environment has another version than the lock.
    """
    for line in re.findall(r"^([A-Za-z0-9._-]+==[^\\\n]+)", lock.read_text(), re.MULTILINE):
        asked = Requirement(line.strip())
        if asked.name in _BUILDERS or asked.name.startswith("nvidia-cu") or asked.name == "nvidia-nvjitlink":
            continue
        if asked.marker is not None and not asked.marker.evaluate():
            continue
        stands_in = asked.name == "onnxruntime-gpu"
        found = importlib.metadata.distribution("onnxruntime" if stands_in else asked.name)
        assert stands_in or found.version in asked.specifier, f"{lock.name}: {asked}, here is {found.version}"
        _link(found, folder)
    # Its own version; the code comes from the checkout.
    _link(importlib.metadata.distribution("headrace"), folder, only=".dist-info")
    return folder


def _link(found: importlib.metadata.Distribution, folder: Path, *, only: str = "") -> None:
    for file in found.files or ():
        if file.parts[0] == ".." or file.suffix == ".pyc" or not file.parts[0].endswith(only):
            continue
        link = folder / file
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(str(found.locate_file(file))))
