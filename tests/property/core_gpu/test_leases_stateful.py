"""The lease machine against a model that is a list: any order of asking, renewing, releasing, waiting, restarting."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from core_gpu.arbiter.lease import Granted, Lease, Reason, Refused
from core_gpu.arbiter.line import Waiter
from core_gpu.arbiter.states import LeaseState
from tests.unit.core_gpu.arbiter.rig import TERMS, Rig

TOTALS = (1_000, 2_000)
CAPS = (900, 1_800)
#: Nothing is pre-empted by itself here: the rule, the line and the ledger are what is compared.
PATIENT = replace(TERMS, min_residency_s=1e9, restart_grace_s=0)


@dataclass
class Model:
    """What is held, as anybody would write it down."""

    client: str
    gpu: int
    mb: int
    ttl: float
    expires: float
    group: str


class Leases(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.rig = Rig(Path(self.folder.name), *TOTALS, terms=PATIENT)
        self.model: dict[str, Model] = {}
        self.ended: list[str] = []
        self.count = 0

    def free(self, gpu: int) -> int:
        return CAPS[gpu] - sum(lease.mb for lease in self.model.values() if lease.gpu == gpu)

    def drawn(self, data: st.DataObject) -> str:
        # Ids are random, so leases are drawn by the order in which they came.
        return list(self.model)[data.draw(st.integers(0, len(self.model) - 1))]

    def note(self, lease: Lease, group: str) -> None:
        gpu = int(lease.gpu[-1])
        self.model[lease.id] = Model(lease.client, gpu, lease.reserved_mb, lease.ttl_s, lease.expires_s, group)

    @rule(
        mb=st.integers(1, 2_000),
        ttl=st.integers(1, 30),
        gpu=st.sampled_from(["", "0", "1"]),
        group=st.sampled_from(["", "g"]),
    )
    def acquire(self, mb: int, ttl: int, gpu: str, group: str) -> None:
        self.count += 1
        waiting = len(self.rig.arbiter.line)
        held = group and any(lease.group == group for lease in self.model.values())
        eligible = [int(gpu)] if gpu else [0, 1]
        rooms = {place: self.free(place) - mb for place in eligible}
        fitting = [place for place in eligible if rooms[place] >= 0]
        found = self.rig.ask(f"c{self.count}", mb, ttl_s=float(ttl), gpu=gpu, exclusive_group=group)
        if isinstance(found, Granted):
            assert fitting, "more than there is"
            assert not held
            best = min(fitting, key=lambda place: (rooms[place], place))
            if not waiting:
                assert found.lease.gpu == f"GPU-{best}"
            self.note(found.lease, group)
            return
        assert isinstance(found, Refused)
        if held:
            assert found.code is Reason.GROUP_HELD
        elif all(mb > CAPS[place] for place in eligible):
            assert found.code is Reason.NEVER_FITS
        else:
            assert found.code is Reason.INSUFFICIENT
            assert waiting or not fitting, "refused what fits, though nobody waits"

    @rule(mb=st.integers(1, 1_800), priority=st.integers(1, 9), patience=st.integers(1, 20))
    def wait_in_line(self, mb: int, priority: int, patience: int) -> None:
        self.count += 1
        found = self.rig.ask(f"w{self.count}", mb, ttl_s=10.0, priority=priority, wait_s=float(patience))
        if isinstance(found, Granted):
            self.note(found.lease, "")
        else:
            assert isinstance(found, Waiter)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        lease_id = self.drawn(data)
        del self.model[lease_id]
        self.ended.append(lease_id)
        assert self.rig.arbiter.release(lease_id)
        assert self.rig.arbiter.release(lease_id)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), ttl=st.one_of(st.none(), st.integers(1, 30)), loaded=st.booleans())
    def renew(self, data: st.DataObject, ttl: int | None, loaded: bool) -> None:
        lease_id = self.drawn(data)
        found = self.rig.arbiter.renew(lease_id, ttl_s=ttl and float(ttl), loaded=loaded)
        assert isinstance(found, Lease)
        model = self.model[lease_id]
        model.ttl = float(ttl or model.ttl)
        model.expires = self.rig.clock() + model.ttl

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def renew_what_has_ended(self, data: st.DataObject) -> None:
        found = self.rig.arbiter.renew(data.draw(st.sampled_from(self.ended)))
        assert isinstance(found, Refused)
        assert found.code is Reason.ENDED

    @rule(text=st.sampled_from(["", "x", "0" * 32 + "-" + "0" * 16]))
    def made_up(self, text: str) -> None:
        assert not self.rig.arbiter.release(text)

    @rule(seconds=st.floats(0, 12))
    def time_goes_by(self, seconds: float) -> None:
        self.rig.wait(seconds)
        now = self.rig.clock()
        for lease_id in [name for name, lease in self.model.items() if lease.expires <= now]:
            del self.model[lease_id]
            self.ended.append(lease_id)

    @precondition(lambda self: not len(self.rig.arbiter.line))
    @rule(away=st.floats(0, 5), jump=st.floats(-1e6, 1e6))
    def restart(self, away: float, jump: float) -> None:
        clock = self.rig.clock
        self.collect()
        self.rig.close()
        clock.advance(away)
        self.rig = Rig(Path(self.folder.name), *TOTALS, terms=PATIENT, clock=clock)
        self.rig.wall += jump
        self.time_goes_by(0.0)

    def collect(self) -> None:
        """Write down what the line was given meanwhile."""
        for name, answer in list(self.rig.answers.items()):
            del self.rig.answers[name]
            if isinstance(answer, Granted):
                self.note(answer.lease, "")

    @invariant()
    def the_books_are_the_model(self) -> None:
        self.collect()
        books = self.rig.books
        assert {lease_id: lease.reserved_mb for lease_id, lease in books.leases.items()} == {
            lease_id: lease.mb for lease_id, lease in self.model.items()
        }
        for place, account in enumerate(books.accounts.values()):
            reserved = sum(lease.mb for lease in self.model.values() if lease.gpu == place)
            assert account.reserved_mb == account.used_mb + account.pending_mb == reserved <= CAPS[place]
        assert all(lease.state is LeaseState.GRANTED for lease in books.leases.values())
        assert {lease.id for lease in self.rig.ledger.restored().leases} == set(self.model)

    def teardown(self) -> None:
        self.collect()
        for lease_id in list(self.model):
            self.rig.arbiter.release(lease_id)
        self.rig.wait(30)
        self.collect()
        self.rig.wait(1_000)
        assert not self.rig.books.leases
        assert not len(self.rig.arbiter.line)
        assert not self.rig.books.closing
        self.rig.close()
        self.folder.cleanup()


TestLeases = Leases.TestCase
TestLeases.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
