"""What is checked in under streamkit/wire/pb is what `make proto` makes of proto/."""

from __future__ import annotations

import filecmp
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[4]
PB = Path("streamkit/wire/pb")


def test_generated_code_is_up_to_date(tmp_path: Path):
    sources = sorted(str(path) for path in (ROOT / "proto").rglob("*.proto"))
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "mypy", "grpc_python", "mypy_grpc")]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I", str(ROOT / "proto"), *outputs, *sources],
        check=True, capture_output=True, env={**os.environ, "PATH": path},
    )  # fmt: skip
    made = {file.name for file in (tmp_path / PB).iterdir()}
    here = {file.name for file in (ROOT / PB).iterdir() if file.suffix in (".py", ".pyi")} - {"__init__.py"}
    assert made == here, "run make proto"
    _, differing, errors = filecmp.cmpfiles(tmp_path / PB, ROOT / PB, sorted(made), shallow=False)
    assert (differing, errors) == ([], []), "run make proto"
