"""`python -m loadtest.shedding` plays the overload and writes docs/shedding.svg; run it in the repository's root."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections import Counter
from pathlib import Path

from loadtest.shedding.chart import chart
from loadtest.shedding.play import Script, play
from loadtest.shedding.site import NAMES


def main() -> None:
    """Play, write the chart, and say what was seen."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.shedding", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/shedding.svg"), metavar="FILE")
    output = parser.parse_args().output
    script = Script()
    print(f"playing {script.whole_s:g} s: calm, alpha overloaded, calm …")
    with tempfile.TemporaryDirectory(prefix="headrace-shedding-") as folder:
        seen = asyncio.run(play(script, Path(folder)))
    output.write_text(chart(script, seen), encoding="utf-8")
    print(f"wrote {output}; answered by {dict(Counter(who for _, who in seen.requests))}")
    for name in NAMES:
        print(f"  {name}: {' → '.join(seen.changes(name))}")


if __name__ == "__main__":
    main()
