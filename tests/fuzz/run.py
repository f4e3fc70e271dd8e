"""`python -m tests.fuzz.run TARGET CORPUS [libFuzzer options]`: one parser under atheris, from a seeded corpus."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["edge", "streamkit"]):
    from tests.fuzz.targets import SEEDS, TARGETS

if __name__ == "__main__":
    name, corpus, *options = sys.argv[1:]
    for number, seed in enumerate(SEEDS[name]):
        Path(corpus, f"seed-{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], corpus, *options], TARGETS[name])
    atheris.Fuzz()
