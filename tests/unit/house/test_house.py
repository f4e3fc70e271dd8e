"""Rules of the house that a machine can hold: where packages lie, what an import costs, how long a module is."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = [
    *("edge", "control", "core_gpu", "compositor", "observe", "loadtest", "dashboards"),
    *("simulator", "streamkit", "launch"),
]
SOFT_CAP = 300
HARD_CAP = 400


@pytest.mark.parametrize("name", PACKAGES)
def test_package_is_ours_and_not_a_stranger_of_the_same_name(name):
    module = importlib.import_module(name)
    assert Path(module.__file__).parent == ROOT / name
    assert (ROOT / name / "py.typed").exists()


def test_the_chat_edge_loads_no_heavy_library():
    heavy = ["grpc", "av", "onnxruntime", "aiortc", "numpy", "nats", "websockets"]
    program = f"import sys, edge.run; print([name for name in {heavy!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["control.run", "observe.run", "simulator.run", "launch.cli"])
def test_grpc_is_loaded_by_those_who_speak_it_only(module):
    program = f"import sys, {module}; print('grpc' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "False"


def _modules():
    for name in PACKAGES:
        yield from (path for path in (ROOT / name).rglob("*.py") if "pb" not in path.parts)


def test_modules_are_short_or_say_why_they_are_not():
    for path in _modules():
        lines = path.read_text().splitlines()
        assert len(lines) <= HARD_CAP, f"{path.relative_to(ROOT)} has {len(lines)} lines: what two things is it?"
        if len(lines) > SOFT_CAP:
            assert "because" in lines[0], f"{path.relative_to(ROOT)}: {len(lines)} lines and no reason in line 1"


def test_who_decodes_foreign_json_knows_all_that_the_decoder_raises():
    """By `streamkit.wire.unreadable`, but for files of our own, and for readers that name each way of being wrong."""
    own = {"streamkit/wire/unreadable.py", "launch/broker.py", "launch/up.py", "loadtest/launched.py"}
    named = {"edge/protocol/messages.py", "edge/protocol/request.py", "simulator/request.py"}
    pipe = {"compositor/speech/espeak/process.py"}
    found = set()
    for path in _modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("MsgspecError", "DecodeError"):
                found.add(str(path.relative_to(ROOT)))
    assert found - own - named - pipe == set()


def test_no_module_is_named_for_nothing():
    banned = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}
    assert [path for path in _modules() if path.stem in banned] == []


def test_locks_pin_hashes_and_name_no_index():
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text()
        assert "--hash=sha256:" in text
        assert "://" not in text
        assert "--index-url" not in text
