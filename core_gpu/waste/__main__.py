"""`python -m core_gpu.waste` writes docs/waste.md and its chart anew; run it in the repository's root."""

from __future__ import annotations

from pathlib import Path

from core_gpu.waste.page import write

if __name__ == "__main__":
    write(Path())
