"""The generated protobuf code is what `make proto` makes of proto/ now, whoever wrote it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[4]
CHECKED_IN = ROOT / "streamkit" / "wire" / "pb"


def test_generated_code_is_that_of_the_sources(tmp_path: Path) -> None:
    sources = sorted((ROOT / "proto").rglob("*.proto"))
    assert sources
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "mypy", "grpc_python", "mypy_grpc")]
    # The plugins for type stubs are programs of the environment.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}", *outputs, *map(str, sources)]
    made = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})
    assert made.returncode == 0, made.stderr
    fresh = {file.name: file.read_text() for file in (tmp_path / "streamkit" / "wire" / "pb").iterdir()}
    known = {file.name: file.read_text() for file in CHECKED_IN.glob("*_pb2*")}
    assert fresh.keys() == known.keys(), "run `make proto`; a file without its source must go"
    assert [name for name in fresh if fresh[name] != known[name]] == [], "run `make proto`"
