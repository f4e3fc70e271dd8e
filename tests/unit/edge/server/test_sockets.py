from __future__ import annotations

import errno
import socket
import sys

import pytest

from edge.server.sockets import keep_alive, lost_by, tune


@pytest.mark.parametrize(
    "within_ms", [1, 500, 1_000, 2_000, 3_000, 7_000, 10_000, 30_000, 60_000, 600_000, 86_400_000]
)
def test_probes_find_a_silent_peer_within_the_time_and_a_little(within_ms):
    idle_s, interval_s, probes = keep_alive(within_ms)
    assert idle_s >= 1
    assert interval_s >= 1
    assert 1 <= probes <= 127
    found_s = idle_s + interval_s * probes
    assert found_s <= max(2, within_ms / 1000 + interval_s)
    if within_ms <= 600_000:
        assert found_s * 1000 >= min(within_ms, 2_000) * 0.9


def test_the_default_finds_a_silent_peer_within_40_seconds():
    assert keep_alive(30_000) == (15, 5, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="the options are Linux's")
def test_tune_sets_what_the_kernel_then_has():
    with socket.socket() as sock:
        tune(sock, user_timeout_ms=6_000, notsent_bytes=4_096)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 3
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 6_000
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 4_096


def test_other_sockets_are_left_alone():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        tune(ours, user_timeout_ms=6_000, notsent_bytes=4_096)


@pytest.mark.parametrize(
    ("told", "cause"),
    [
        (None, "client"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "client"),
        (BrokenPipeError(errno.EPIPE, "pipe"), "client"),
        (RuntimeError("tls"), "client"),
        (TimeoutError(errno.ETIMEDOUT, "timed out"), "silent"),
        (OSError(errno.EHOSTUNREACH, "no route"), "silent"),
    ],
)
def test_who_is_lost_by_whose_doing(told, cause):
    assert lost_by(told) == cause
