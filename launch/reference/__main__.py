"""`python -m launch.reference`: write the generated pages anew (`make reference`)."""

from __future__ import annotations

from pathlib import Path

from launch.reference.pages import pages

ROOT = Path(__file__).parents[2]

if __name__ == "__main__":
    for name, text in pages(ROOT).items():
        (ROOT / name).write_text(text, encoding="utf-8")
        print(name)
