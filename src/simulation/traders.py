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
from simulation.loop import Handle
from simulation.party import PATIENCE, Party
from wire.errors import Refused
from wire.orders import Order, OrderResult

STOOD_STILL = 2.0
"""Seconds after which an order that was not read yet is too old: its exchange had stood still."""

ONCE = 0.25
"""The share of orders that are sent once only."""

LOOK_AT_DISK = 0.1
"""The share of executions after which it is looked what ledgers have on their disks."""

AGAIN = 0.25
"""The share of executed orders that are sent again much later."""

ASK_ELSEWHERE = 0.6
"""The share of executions of which another exchange is asked at once."""


class Sender(Exchange):
    """The load generator's client, over the simulated web."""

    def __init__(self, party: Party, history: History) -> None:
        super().__init__("http://127.0.0.1:1", 1, asyncio.Event(), history)
        self.sent: dict[str, float] = {}
        self._party = party
        self._targets = itertools.cycle(instance.name for instance in party.system.of("exchange"))

    async def _post(self, body: bytes, order_id: str) -> AttemptResult:
        order = msgspec.json.decode(body, type=Order)
        party = self._party
        self.sent[order_id] = party.world.now
        try:
            async with asyncio.timeout(ATTEMPT_TIMEOUT):
                response = await party.system.web.ask(party.process, next(self._targets), ordering(order, party))
        except NotConnected as error:
            return Undelivered(str(error))
        except OSError as error:
            return Unknown(repr(error))
        return classify(response.status, response.body, response.retry_after, order_id)


def ordering(order: Order, party: Party) -> Any:
    """What `POST /orders` calls. One that an exchange reads long after it was sent is refused: it had stood still. And
    one that is rejected finds nothing in some state that the log was in meanwhile, whatever else is under way."""
    world, sent = party.world, party.world.now
    states = party.monitor.symbols[order.symbol].states
    since = len(states) - 1

    async def route(exchange: Any) -> OrderResult:
        waited = world.now - sent
        result: OrderResult = await exchange.order(order)
        if waited > STOOD_STILL:
            party.wrong.append(
                f"{order.order_id} was sent at {sent:.3f}, read {waited:.3f} s later, and {result.status}"
            )
        if result.status == "rejected" and all(state.executes(order) for state in islice(states, since, None)):
            text = f"{order.order_id}, sent at {sent:.3f}, is rejected ({result.reason}) at {world.now:.3f}"
            party.wrong.append(f"{text}, and by the log it may execute all the time")
        return result

    return route


class Traders:
    """All who order.

    Attributes:
        unresolved: orders whose outcome nobody told in time, with when they were first sent.
        outcomes: how many orders had which outcome.
        filled: the order that was last answered to have executed, and since when.
    """

    def __init__(self, party: Party, history: Path) -> None:
        self.unresolved: list[tuple[Order, float]] = []
        self.outcomes: dict[str, int] = {}
        self.filled: tuple[Order, float] | None = None
        self._party = party
        self._history = History(history, party.process.clock)
        self._sender = Sender(party, self._history)
        self._waiting: dict[str, Order] = {}
        party.monitor.sent = self._sender.sent
        party.monitor.on_fill = self._executed

    def close(self) -> None:
        """Write the history out."""
        self._history.__exit__(None, None, None)

    async def work(self) -> None:
        """Order, until the process ends."""
        plan, market = self._party.system.plan, self._party.system.market
        flow = orders("o", market.symbols, max_quantity=16, aggressiveness=0.8, seed=plan.seed)
        async for _ in self._party.every(plan.order_rate):
            order = next(flow)
            once = self._party.random.random() < ONCE
            self._party.begin(self._order_once(order) if once else self.order(order))

    def ordering(self, order: Order) -> Any:
        """What `POST /orders` calls."""
        return ordering(order, self._party)

    async def order(self, order: Order) -> str:
        """Send an order until its outcome is known, or patience ends."""
        began = self._party.world.now
        self._waiting[order.order_id] = order
        outcome = await self._sender.submit(order)
        del self._waiting[order.order_id]
        self.outcomes[outcome.name] = self.outcomes.get(outcome.name, 0) + 1
        if outcome.filled:
            self.filled = order, self._party.world.now
        if outcome.name in ("unknown", "undelivered"):
            self.unresolved.append((order, began))
        elif outcome.filled and self._party.random.random() < AGAIN:
            later = self._party.random.random() * self._party.system.plan.id_window / 2
            self._party.world.after(later, self._send_again, order, outcome.filled, self._party.world.now)
        return outcome.name

    async def _order_once(self, order: Order) -> None:
        """Send an order once, and wait for longer than an exchange does. Who was told that nothing was done may rely on
        that."""
        target = self._party.one_of("exchange")
        self._sender.sent[order.order_id] = self._party.world.now
        self._history.sent(order, 1)
        answer: AttemptResult
        try:
            async with asyncio.timeout(PATIENCE):
                response = await self._party.system.web.ask(self._party.process, target, self.ordering(order))
            answer = classify(response.status, response.body, response.retry_after, order.order_id)
        except NotConnected as error:
            answer = Undelivered(str(error))
        except OSError as error:
            answer = Unknown(repr(error))
        self._history.answered(order.order_id, 1, answer)
        is_sure = isinstance(answer, Undelivered) or (isinstance(answer, Unknown) and not answer.in_doubt)
        if is_sure or (isinstance(answer, Known) and (answer.rejected or answer.result is None)):
            self._party.monitor.never.add(order.order_id)
            if order.order_id in self._party.monitor.executed:
                self._party.wrong.append(f"{order.order_id} has executed, and {target} told that it did not: {answer}")

    def _executed(self, order_id: str) -> None:
        """An order is in the log by now. Whoever asks another exchange from now on must be told so."""
        if self._party.random.random() < LOOK_AT_DISK:
            self._party.world.after(0.05 * self._party.random.random(), self._look_at_disk)
        order = self._waiting.get(order_id)
        exchanges = self._party.system.of("exchange")
        if order is None or len(exchanges) < 2 or self._party.random.random() > ASK_ELSEWHERE:
            return
        self._party.world.after(0.0, self._ask_elsewhere, order, self._party.random.choice(exchanges).name)

    def _look_at_disk(self) -> None:
        """What a ledger tells is on its disk."""
        for instance in self._party.system.of("ledger"):
            path = self._party.system.folder / f"{instance.name}.sqlite"
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
                    self._party.wrong.append(
                        f"{instance.name} tells of position {version} of {symbol}, and keeps {kept}"
                    )

    def _ask_elsewhere(self, order: Order, target: str) -> None:
        self._party.process.soon(Handle(self._party.begin, (self._answered_elsewhere(order, target),), None))

    async def _answered_elsewhere(self, order: Order, target: str) -> None:
        asked = self._party.world.now
        self._sender.sent[order.order_id] = asked
        response = await self._party.ask(target, self.ordering(order), PATIENCE)
        if response is None or response.status >= 500:
            return
        result = msgspec.json.decode(response.body, type=OrderResult) if response.status == 200 else None
        if result is None or not result.filled_quantity:
            text = f"{result.status} ({result.reason})" if result else str(response.status)
            self._party.wrong.append(f"{order.order_id} had executed, and {target}, asked at {asked:.3f}, told {text}")

    def _send_again(self, order: Order, filled: int, at: float) -> None:
        if self._party.running:
            self._party.process.soon(Handle(self._party.begin, (self._again(order, filled, at),), None))

    async def _again(self, order: Order, filled: int, at: float) -> None:
        """Send an order again that was filled: the answer must be the same while its id is remembered."""
        target = self._party.one_of("exchange")
        response = await self._party.ask(target, self.ordering(order), ATTEMPT_TIMEOUT)
        if response is None or response.status != 200:
            return
        result = msgspec.json.decode(response.body, type=OrderResult)
        if result.filled_quantity != filled:
            self._party.wrong.append(
                f"{order.order_id} was filled with {filled} lots at {at:.3f}, and sent again to {target} it is told "
                f"{result.status} ({result.reason}) with {result.filled_quantity} at {self._party.world.now:.3f}"
            )
