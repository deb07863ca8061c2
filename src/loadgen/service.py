"""The open loop: orders come due on their schedule, and each goes to the first free sender."""

import asyncio
import time
from typing import NamedTuple

from loadgen.client import PATIENCE, Exchange
from loadgen.flow import orders
from loadgen.pacing import arrivals
from loadgen.plan import Plan
from loadgen.tally import Tally
from wire.orders import Order


class _Due(NamedTuple):
    """An order to send: when it was meant to be sent, and when the generator came round to it."""

    intended: float
    noticed: float
    order: Order


class LoadGenerator:
    """One run.

    Args:
        plan: what to do.
        exchange: where to send to.
        stopping: ends the run early: nothing new is sent, and what is in flight gets its answer or times out.

    Attributes:
        tally: the counts so far.
    """

    def __init__(self, plan: Plan, exchange: Exchange, stopping: asyncio.Event) -> None:
        self._plan = plan
        self._exchange = exchange
        self._stopping = stopping
        self._queue: asyncio.Queue[_Due | None] = asyncio.Queue()
        self.tally = Tally(time.monotonic())

    async def run(self) -> None:
        """Send the orders of the plan; return once every outcome is settled."""
        self.tally.started = self.tally.last_sent = time.monotonic()
        async with asyncio.TaskGroup() as group:
            senders = [group.create_task(self._send()) for _ in range(self._plan.concurrency)]
            schedule = group.create_task(self._schedule())
            stopped = group.create_task(self._stopping.wait())
            await asyncio.wait([schedule, stopped], return_when=asyncio.FIRST_COMPLETED)
            schedule.cancel()
            for _ in senders:
                self._queue.put_nowait(None)
            await asyncio.wait(senders)
            stopped.cancel()

    async def _schedule(self) -> None:
        """Queue each order when it is due, never sooner, until the duration is over.

        Everything due is queued at once, then the senders get their turn: a late generator catches up without starving
        them. The monotonic clock is read, not the loop's: uvloop's counts whole milliseconds.
        """
        plan, tally = self._plan, self.tally
        flow = orders(
            plan.run_id,
            plan.instruments,
            max_quantity=plan.max_quantity,
            aggressiveness=plan.aggressiveness,
            seed=plan.seed,
        )
        now = time.monotonic()
        for offset in arrivals(plan.rate, plan.seed):
            if plan.duration is not None and offset > plan.duration:
                return
            intended = tally.started + offset
            while now < intended:
                await asyncio.sleep(max(0.0, intended - time.monotonic()))
                now = time.monotonic()
            tally.order_due(intended, now)
            self._queue.put_nowait(_Due(intended, now, next(flow)))

    async def _send(self) -> None:
        """One sender: one order at a time, from its first attempt to its outcome."""
        while (due := await self._queue.get()) is not None:
            now = time.monotonic()
            if self._stopping.is_set() or now - due.intended > PATIENCE:
                self.tally.order_not_sent()
                continue
            self.tally.order_sent(due.noticed, now)
            outcome = await self._exchange.submit(due.order)
            self.tally.order_ended(outcome, due.intended, time.monotonic())
