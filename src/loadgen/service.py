"""The open loop: orders fall due on a schedule, and each goes to the first free sender."""

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
    """An order to send, its intended send time, and when the load generator noticed that it was due."""

    intended: float
    noticed: float
    order: Order


class LoadGenerator:
    """One run.

    Args:
        plan: the parameters of the run.
        exchange: the exchange to send orders to.
        stopping: ends the run early: no further orders are sent, and those in flight are answered or time out.

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
        """Send the orders of the plan. Return when every order has an outcome."""
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
        """Queue each order when it is due, never earlier, until the duration has ended.

        All orders that are due are queued at once, and then the senders have their turn, so a late load generator
        catches up without starving them. This uses the monotonic clock, because uvloop's clock counts whole
        milliseconds.
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
        """Send one order at a time, from its first attempt to its outcome."""
        while (due := await self._queue.get()) is not None:
            now = time.monotonic()
            if self._stopping.is_set() or now - due.intended > PATIENCE:
                self.tally.order_not_sent()
                continue
            self.tally.order_sent(due.noticed, now)
            outcome = await self._exchange.submit(due.order)
            self.tally.order_ended(outcome, due.intended, time.monotonic())
