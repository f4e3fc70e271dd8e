from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from loadtest.relay import proc
from tests.support.timing import MS

STAT = "42 (a (b) c) d) S 7 42 42 0 -1 4194560 100 0 0 0 12 34 0 0 20 0 1 0 9876 1000000 250 18446744073709551615"


def test_a_process_name_may_hold_brackets():
    assert proc.parse_stat(STAT) == (7, 9876)


def test_a_cores_line():
    text = "cpu  1 1 1 1 1 1 1 1\ncpu1 100 5 50 800 20 3 2 20 7 0\ncpu10 1 1 1 1 1 1 1 1\n"
    core = proc.parse_core(text, 1)
    assert core.total == 1000 * proc.TICK_NS
    assert core.idle == 820 * proc.TICK_NS


def test_a_core_that_is_not_there():
    with pytest.raises(LookupError, match="cpu3"):
        proc.parse_core("cpu  1 1 1 1 1 1 1 1\n", 3)


def test_busy_is_what_is_not_idle():
    before, after = proc.CoreTime(1000, 500), proc.CoreTime(2000, 1250)
    assert proc.busy_share(before, after) == 0.25
    assert proc.busy_share(before, before) == 0.0


def test_tcp_memory_and_slab():
    sockstat = "sockets: used 14\nTCP: inuse 1 orphan 0 tw 0 alloc 1 mem 254\nUDP: inuse 0 mem 3\n"
    assert proc.parse_tcp_bytes(sockstat) == 254 * proc.PAGE_BYTES
    assert proc.parse_slab_bytes("MemFree: 5 kB\nSUnreclaim:   1024 kB\n") == 1 << 20


def test_the_kernel_holds_something_here():
    assert proc.kernel_bytes() > 0
    assert proc.core_time(min(os.sched_getaffinity(0))).total > 0


def test_spent_counts_new_processes_whole_and_forgets_dead_ones():
    assert proc.spent_ns({1: 100, 2: 50}, {1: 130, 3: 7}) == 37


def test_cpu_time_of_a_process_grows_with_its_work():
    code = "import time\nwhile time.process_time() < 0.2: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        spent = proc.process_cpu_ns(child.pid)
        assert spent is not None
        assert spent >= 200_000_000
        assert proc.rss_bytes([child.pid]) > 1 << 20
        assert proc.start_ticks(child.pid) is not None
        child.communicate("\n")
    assert proc.process_cpu_ns(child.pid) is None
    assert proc.start_ticks(child.pid) is None
    assert proc.rss_bytes([child.pid]) == 0


def test_the_tree_holds_grandchildren():
    inner = "print(flush=True); input()"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", outer], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        found = proc.tree([child.pid])
        assert child.pid in found
        assert len(found) == 2
        assert os.getpid() not in found
        child.communicate("\n")
    deadline = time.monotonic() + 5_000 * MS
    while proc.tree(found) and time.monotonic() < deadline:
        pass
    assert proc.tree(found) == frozenset()
