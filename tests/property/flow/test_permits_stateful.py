"""Permits under any order of acquiring, releasing, resizing, cancelling and expiring."""

from __future__ import annotations

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streamkit.flow.clock import ManualClock
from streamkit.flow.permits import Permit, Permits, QueueFull, QueueTimeout


class PermitsMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.permits = Permits(2, queue_bound=4, ageing_ms=100, clock=self.clock)
        self.held: list[Permit] = []
        self.tasks: list[asyncio.Task[Permit]] = []
        self.dropped: list[asyncio.Task[Permit]] = []

    def turn(self) -> None:
        """Let every ready task run, then collect what was granted."""
        for _ in range(3):
            self.loop.run_until_complete(asyncio.sleep(0))
        for task in [task for task in self.tasks if task.done()]:
            self.tasks.remove(task)
            if task.cancelled() or isinstance(task.exception(), QueueFull | QueueTimeout):
                continue
            self.held.append(task.result())

    @rule(priority=st.integers(1, 9), soon=st.booleans())
    def acquire(self, priority: int, soon: bool) -> None:
        deadline = self.clock() + (1e-9 if soon else 1_000)
        self.tasks.append(self.loop.create_task(self.permits.acquire(priority, deadline)))

    @rule()
    def try_acquire(self) -> None:
        permit = self.permits.try_acquire()
        if permit is not None:
            self.held.append(permit)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        permit = data.draw(st.sampled_from(self.held))
        self.held.remove(permit)
        permit.release()
        permit.release()

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(self.tasks))
        self.tasks.remove(task)
        task.cancel()
        self.dropped.append(task)

    @rule(limit=st.integers(0, 4))
    def resize(self, limit: int) -> None:
        self.permits.set_limit(limit)

    @rule(seconds=st.floats(0, 1))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.turn()

    @invariant()
    def nobody_waits_while_a_permit_is_free(self) -> None:
        assert self.permits.waiting <= 4
        if any(not task.done() for task in self.dropped):
            return
        if self.permits.waiting:
            assert self.permits.in_use >= self.permits.limit

    def teardown(self) -> None:
        try:
            self.turn()
            self.loop.run_until_complete(self.cancel_everyone())
        finally:
            self.loop.close()
        assert self.permits.in_use == len(self.held), "a permit leaked"
        assert self.permits.waiting == 0
        for permit in self.held:
            permit.release()
        assert self.permits.in_use == 0

    async def cancel_everyone(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, *self.dropped, return_exceptions=True)


TestPermits = PermitsMachine.TestCase
TestPermits.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
