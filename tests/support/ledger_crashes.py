"""Crashes a ledger again and again, and checks after each what is in it; run as a program of its own.

`python -m tests.support.ledger_crashes FOLDER COUNT SEED` forks a child for each crash, so that a crash costs a fork
and no start of an interpreter. The child grants, renews and releases leases, acknowledges each through a pipe once
the ledger has returned, and ends by `os._exit` at a named point, or by SIGKILL at any moment. The parent then opens
the ledger: every acknowledged grant that was not released must be there once, with the expiry that was acknowledged;
no acknowledged release may be; and at most the one call that was under way may have gone either way.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

from core_gpu.arbiter.clocks import Clocks
from core_gpu.arbiter.lease import Lease
from core_gpu.arbiter.ledger import Ledger

POINTS = ("write.before", "write.after", "checkpoint.before", "checkpoint.after", "kill")
#: Expiries come back through the clock, a few microseconds off; renewals differ by whole seconds.
CLOSE_S = 0.1
CLOCKS = Clocks(time.monotonic, time.time, "one-boot")


def child(folder: Path, pipe: int, point: str, after: int, seed: int) -> None:
    """Work until the crash."""
    dice = random.Random(seed)
    hits = 0

    def at(name: str) -> None:
        nonlocal hits
        if name == point:
            hits += 1
            if hits > after:
                os._exit(77)

    ledger = Ledger(folder, CLOCKS, at=at)
    held = {lease.id: lease for lease in ledger.restored().leases}
    number = 0
    while True:
        number += 1
        choice = dice.random()
        if choice < 0.5 or not held:
            now = time.monotonic()
            lease = Lease(f"{seed}-{number}", "c", "m", "GPU-0", 1 + number, 2, 1e6, now + 600, now)
            os.write(pipe, f"?grant {lease.id} {lease.expires_s!r}\n".encode())
            ledger.put(lease)
            held[lease.id] = lease
            os.write(pipe, f"grant {lease.id} {lease.expires_s!r}\n".encode())
        elif choice < 0.7:
            lease = held[dice.choice(sorted(held))]
            lease.expires_s += 1
            os.write(pipe, f"?grant {lease.id} {lease.expires_s!r}\n".encode())
            ledger.put(lease)
            os.write(pipe, f"grant {lease.id} {lease.expires_s!r}\n".encode())
        else:
            lease = held.pop(dice.choice(sorted(held)))
            os.write(pipe, f"?release {lease.id} 0\n".encode())
            ledger.remove(lease.id)
            os.write(pipe, f"release {lease.id} 0\n".encode())
        if number % 7 == 0:
            thread = threading.Thread(target=ledger.checkpoint)
            thread.start()
            if dice.random() < 0.5:
                thread.join()


def crash(folder: Path, known: dict[str, float], seed: int) -> str:
    """Crash once, check, and return the point; `known` is what the ledger holds, by id its expiry."""
    dice = random.Random(seed)
    point = POINTS[seed % len(POINTS)]
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(out)
        try:
            child(folder, into, point, dice.randrange(20 if point.startswith("write") else 3), seed)
        except BaseException as error:  # noqa: BLE001  the parent must see every end
            os.write(into, f"!{error!r}\n".encode())
        os._exit(1)
    os.close(into)
    if point == "kill":
        time.sleep(dice.random() * 0.02)
        os.kill(pid, signal.SIGKILL)
    lines = b""
    while piece := os.read(out, 65_536):
        lines += piece
    os.close(out)
    _, status = os.waitpid(pid, 0)
    expected = -signal.SIGKILL if point == "kill" else 77
    got = os.waitstatus_to_exitcode(status)
    assert got == expected, (point, got, lines[-300:])
    open_call: tuple[str, str, float] | None = None
    for line in lines.decode().splitlines():
        what, lease_id, expires = line.split()
        if what.startswith("?"):
            open_call = (what[1:], lease_id, float(expires))
            continue
        open_call = None
        if what == "grant":
            known[lease_id] = float(expires)
        else:
            known.pop(lease_id)
    ledger = Ledger(folder, CLOCKS)
    rows = [(lease.id, lease.expires_s) for lease in ledger.restored().leases]
    ledger.close()
    found = dict(rows)
    assert len(found) == len(rows), "doubled"
    if open_call is not None:
        what, lease_id, expires_s = open_call
        if what == "release" and lease_id not in found:
            known.pop(lease_id)
        elif what == "grant" and abs(found.get(lease_id, 0.0) - expires_s) < CLOSE_S:
            known[lease_id] = expires_s
    assert found.keys() == known.keys(), (point, seed)
    assert all(abs(found[lease_id] - known[lease_id]) < CLOSE_S for lease_id in known), (point, seed)
    return point


def main() -> None:
    """Crash as often as asked."""
    folder, count, first = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    known: dict[str, float] = {}
    points: dict[str, int] = dict.fromkeys(POINTS, 0)
    for seed in range(first, first + count):
        points[crash(folder, known, seed)] += 1
    print(points, len(known))


if __name__ == "__main__":
    main()
