from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from launch.logs import Log

pytestmark = pytest.mark.anyio


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


async def copied(log: Log, *pieces: bytes) -> None:
    reader = asyncio.StreamReader()
    copying = asyncio.ensure_future(log.copy(reader))
    for piece in pieces:
        reader.feed_data(piece)
        await asyncio.sleep(0)
    reader.feed_eof()
    await copying
    log.close()


async def test_all_goes_to_the_file_and_the_last_lines_are_at_hand(tmp_path: Path):
    log = Log(tmp_path / "a.log")
    await copied(log, b"one\ntw", b"o\n\nhalf")
    assert (tmp_path / "a.log").read_bytes() == b"one\ntwo\n\nhalf"
    assert log.tail() == ["one", "two", "half"]


async def test_the_file_is_turned_over_and_bounded(tmp_path: Path):
    log = Log(tmp_path / "a.log", file_bytes=100)
    await copied(log, *(b"%03d %s\n" % (number, b"x" * 35) for number in range(50)))
    assert sizes(tmp_path).keys() == {"a.log", "a.log.1"}
    assert max(sizes(tmp_path).values()) <= 100
    assert log.tail()[-1].startswith("049")
    assert len(log.tail()) == 20


async def test_a_line_without_end_is_bounded_in_memory(tmp_path: Path):
    log = Log(tmp_path / "a.log")
    await copied(log, *[b"x" * 8_000] * 20)
    assert len(log.tail()[0]) <= 8 * 1024
