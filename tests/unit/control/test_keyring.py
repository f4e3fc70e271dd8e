from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control.keyring import Keyring
from control.registry import Registry
from control.settings import ControlSettings
from control.snapshot import Board
from control.store import Store, StoreError
from streamkit.wire.ids import Instance
from streamkit.wire.keys import KeySnapshot
from tests.support.inprocess import until


@contextlib.asynccontextmanager
async def watched(store: Store) -> AsyncIterator[tuple[Keyring, list[KeySnapshot]]]:
    ring = Keyring(store, required=False, poll_ms=1)
    told: list[KeySnapshot] = []
    ring.on_change = told.append
    task = asyncio.create_task(ring.watch())
    try:
        yield ring, told
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.anyio
async def test_a_change_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    with Store(path, create=True) as store, Store(path) as other:
        async with watched(store) as (ring, told):
            assert ring.snapshot.required is False
            other.create_key("acme")
            await until(lambda: told, "the new key is told")
            other.create_key("acme")
            await until(lambda: len(told) == 2, "the next one, too")
            assert [len(snapshot.keys) for snapshot in told] == [1, 2]
            assert ring.snapshot == told[-1]
            assert ring.errors == 0


@pytest.mark.anyio
async def test_a_store_that_cannot_be_read_leaves_the_keys_in_force(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="control.keyring")
    path, aside = tmp_path / "control.db", tmp_path / "aside"
    with Store(path, create=True) as store:
        store.create_key("acme")
        store.changed()
        async with watched(store) as (ring, told):
            path.rename(aside)
            await until(lambda: ring.errors >= 3, "it was missed")
            path.write_bytes(b"damaged" * 1_000)
            seen = ring.errors
            await until(lambda: ring.errors > seen, "what lies there now is no store")
            assert len(ring.snapshot.keys) == 1
            assert told == []
            aside.replace(path)
            await until(lambda: "keys.readable" in caplog.messages, "it is back")
            with Store(path) as other:
                other.create_key("acme")
            await until(lambda: told, "and watched again")
    assert len(told[-1].keys) == 2
    assert caplog.messages.count("keys.unreadable") == 1


def test_a_store_that_cannot_be_read_at_first_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    store = Store(path, create=True)
    store.close()
    with pytest.raises(StoreError):
        Keyring(store, required=False, poll_ms=1)


def test_the_first_snapshot_has_the_keys(tmp_path: Path) -> None:
    with Store(tmp_path / "control.db", create=True) as store:
        store.create_key("acme")
        ring = Keyring(store, required=False, poll_ms=1)
        registry = Registry((), ControlSettings())
        registry.set_keys(ring.snapshot)
        board = Board(registry, Instance.new("n"), max_waits=1)
        assert b'"required":true' in board.encoded()
