"""`headrace bench viewers`, its own parts: two edges at one compositor, and viewers that both really send to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loadtest.reported import Place
from loadtest.viewers import audience, cli


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_two_edges_and_the_peer_send_to_viewers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(audience, "_SETTLE_S", 0.0)
    cpu = min(os.sched_getaffinity(0))
    with cli._servers(Place(tmp_path, cpu, cpu)) as (edge, second, peer):
        assert len({edge.pid, second.pid, peer.pid}) == 3
        assert audience.percent([edge, second], 3, 0.3, tmp_path, cpu) > 0
        assert audience.percent([peer], 1, 0.3, tmp_path, cpu) > 0
