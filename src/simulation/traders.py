"""Those who order: as the protocol says, what has no answer is sent again, identical. The load generator's own code
decides when. Some send once only, and some ask again elsewhere, or much later."""

import asyncio
import itertools
import sqlite3
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from loadgen.client import ATTEMPT_TIMEOUT, Exchange
from loadgen.flow import orders
from loadgen.history import History
from loadgen.http import NotConnected
from loadgen.outcomes import AttemptResult, Known, Undelivered, Unknown, classify
from simulation.client_process import PATIENCE, ClientProcess
from simulation.loop import Handle
from wire.errors import Refused
from wire.orders import Order, OrderResult

STALL = 2.0
"""Seconds after which an order that was not read yet is too old: its exchange had stood still."""

ONCE = 0.25
"""The share of orders that are sent once only."""

CHECK_DISK = 0.1
"""The share of executions after which it is looked what ledgers have on their disks."""

RESEND = 0.25
"""The share of executed orders that are sent again much later."""

RESEND_ELSEWHERE = 0.6
"""The share of executions of which another exchange is asked at once."""


class Sender(Exchange):
    """The load generator's client, over the simulated web."""

    def __init__(self, host: ClientProcess, history: History) -> None:
        super().__init__("http://127.0.0.1:1", 1, asyncio.Event(), history)
        self.sent: dict[str, float] = {}
        self._host = host
        self._targets = itertools.cycle(instance.name for instance in host.system.of("exchange"))

    async def _post(self, body: bytes, order_id: str) -> AttemptResult:
        order = msgspec.json.decode(body, type=Order)
        host = self._host
        self.sent[order_id] = host.world.now
        try:
            async with asyncio.timeout(ATTEMPT_TIMEOUT):
                response = await host.system.web.request(host.process, next(self._targets), ordering(order, host))
        except NotConnected as error:
            return Undelivered(str(error))
        except OSError as error:
            return Unknown(repr(error))
        return classify(response.status, response.body, response.retry_after, order_id)


def ordering(order: Order, host: ClientProcess) -> Any:
    """What `POST /orders` calls. One that an exchange reads long after it was sent is refused: it had stood still. And
    one that is rejected finds nothing in some state that the log was in meanwhile, whatever else is under way."""
    world, sent = host.world, host.world.now
    states = host.monitor.symbols[order.symbol].states
    since = len(states) - 1

    async def route(exchange: Any) -> OrderResult:
        waited = world.now - sent
        result: OrderResult = await exchange.order(order)
        if waited > STALL:
            host.wrong.append(
                f"{order.order_id} was sent at {sent:.3f}, read {waited:.3f} s later, and {result.status}"
            )
        if result.status == "rejected" and all(state.executes(order) for state in islice(states, since, None)):
            text = f"{order.order_id}, sent at {sent:.3f}, is rejected ({result.reason}) at {world.now:.3f}"
            host.wrong.append(f"{text}, and by the log it may execute all the time")
        return result

    return route


class Traders:
    """All who order.

    Attributes:
        unresolved: orders whose outcome nobody told in time, with when they were first sent.
        outcomes: how many orders had which outcome.
        filled: the order that was last answered to have executed, and since when.
    """

    def __init__(self, host: ClientProcess, history: Path) -> None:
        self.unresolved: list[tuple[Order, float]] = []
        self.outcomes: dict[str, int] = {}
        self.filled: tuple[Order, float] | None = None
        self._host = host
        self._history = History(history, host.process.clock)
        self._sender = Sender(host, self._history)
        self._waiting: dict[str, Order] = {}
        host.monitor.sent = self._sender.sent
        host.monitor.on_fill = self._executed

    def close(self) -> None:
        """Write the history out."""
        self._history.__exit__(None, None, None)

    async def work(self) -> None:
        """Order, until the process ends."""
        plan, market = self._host.system.plan, self._host.system.market
        flow = orders("o", market.symbols, max_quantity=16, aggressiveness=0.8, seed=plan.seed)
        async for _ in self._host.every(plan.order_rate):
            order = next(flow)
            once = self._host.random.random() < ONCE
            self._host.begin(self._order_once(order) if once else self.order(order))

    def ordering(self, order: Order) -> Any:
        """What `POST /orders` calls."""
        return ordering(order, self._host)

    async def order(self, order: Order) -> str:
        """Send an order until its outcome is known, or patience ends."""
        began = self._host.world.now
        self._waiting[order.order_id] = order
        outcome = await self._sender.submit(order)
        del self._waiting[order.order_id]
        self.outcomes[outcome.name] = self.outcomes.get(outcome.name, 0) + 1
        if outcome.filled:
            self.filled = order, self._host.world.now
        if outcome.name in ("unknown", "undelivered"):
            self.unresolved.append((order, began))
        elif outcome.filled and self._host.random.random() < RESEND:
            later = self._host.random.random() * self._host.system.plan.id_window / 2
            self._host.world.after(later, self._send_again, order, outcome.filled, self._host.world.now)
        return outcome.name

    async def _order_once(self, order: Order) -> None:
        """Send an order once, and wait for longer than an exchange does. Who was told that nothing was done may rely on
        that."""
        target = self._host.one_of("exchange")
        self._sender.sent[order.order_id] = self._host.world.now
        self._history.sent(order, 1)
        answer: AttemptResult
        try:
            async with asyncio.timeout(PATIENCE):
                response = await self._host.system.web.request(self._host.process, target, self.ordering(order))
            answer = classify(response.status, response.body, response.retry_after, order.order_id)
        except NotConnected as error:
            answer = Undelivered(str(error))
        except OSError as error:
            answer = Unknown(repr(error))
        self._history.answered(order.order_id, 1, answer)
        is_sure = isinstance(answer, Undelivered) or (isinstance(answer, Unknown) and not answer.in_doubt)
        if is_sure or (isinstance(answer, Known) and (answer.rejected or answer.result is None)):
            self._host.monitor.never.add(order.order_id)
            if order.order_id in self._host.monitor.executed:
                self._host.wrong.append(f"{order.order_id} has executed, and {target} told that it did not: {answer}")

    def _executed(self, order_id: str) -> None:
        """An order is in the log by now. Whoever asks another exchange from now on must be told so."""
        if self._host.random.random() < CHECK_DISK:
            self._host.world.after(0.05 * self._host.random.random(), self._check_disk)
        order = self._waiting.get(order_id)
        exchanges = self._host.system.of("exchange")
        if order is None or len(exchanges) < 2 or self._host.random.random() > RESEND_ELSEWHERE:
            return
        self._host.world.after(0.0, self._resend_elsewhere, order, self._host.random.choice(exchanges).name)

    def _check_disk(self) -> None:
        """What a ledger tells is on its disk."""
        for instance in self._host.system.of("ledger"):
            path = self._host.system.folder / f"{instance.name}.sqlite"
            if instance.process is None or instance.service is None or not path.exists():
                continue
            try:
                rows = instance.service.snapshot()
            except Refused:  # it is not open yet
                continue
            shown = {row.position.symbol: row.position.position_version for row in rows}
            with closing(sqlite3.connect(path)) as database:
                kept = dict(database.execute("SELECT symbol, position_version FROM positions").fetchall())
            for symbol, version in shown.items():
                if version > kept.get(symbol, 0):
                    self._host.wrong.append(
                        f"{instance.name} tells of position {version} of {symbol}, and keeps {kept}"
                    )

    def _resend_elsewhere(self, order: Order, target: str) -> None:
        self._host.process.soon(Handle(self._host.begin, (self._answered_elsewhere(order, target),), None))

    async def _answered_elsewhere(self, order: Order, target: str) -> None:
        asked = self._host.world.now
        self._sender.sent[order.order_id] = asked
        response = await self._host.request(target, self.ordering(order), PATIENCE)
        if response is None or response.status >= 500:
            return
        result = msgspec.json.decode(response.body, type=OrderResult) if response.status == 200 else None
        if result is None or not result.filled_quantity:
            text = f"{result.status} ({result.reason})" if result else str(response.status)
            self._host.wrong.append(f"{order.order_id} had executed, and {target}, asked at {asked:.3f}, told {text}")

    def _send_again(self, order: Order, filled: int, at: float) -> None:
        if self._host.running:
            self._host.process.soon(Handle(self._host.begin, (self._again(order, filled, at),), None))

    async def _again(self, order: Order, filled: int, at: float) -> None:
        """Send an order again that was filled: the answer must be the same while its id is remembered."""
        target = self._host.one_of("exchange")
        response = await self._host.request(target, self.ordering(order), ATTEMPT_TIMEOUT)
        if response is None or response.status != 200:
            return
        result = msgspec.json.decode(response.body, type=OrderResult)
        if result.filled_quantity != filled:
            self._host.wrong.append(
                f"{order.order_id} was filled with {filled} lots at {at:.3f}, and sent again to {target} it is told "
                f"{result.status} ({result.reason}) with {result.filled_quantity} at {self._host.world.now:.3f}"
            )
