"""Clients that send orders. As the protocol asks, they resend the identical order until it is answered; the load
generator's own code decides when. Some send an order only once; some resend it to another exchange, or much later."""

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
"""An exchange must refuse an order that it reads more than this many seconds after it was sent: it was paused."""

ONCE = 0.25
"""The share of orders that are sent only once."""

CHECK_DISK = 0.1
"""The share of executions after which the ledgers' databases are checked."""

RESEND = 0.25
"""The share of executed orders that are resent much later."""

RESEND_ELSEWHERE = 0.6
"""The share of executed orders that are resent to another exchange at once."""


class Sender(Exchange):
    """The load generator's client, which sends through the simulated network."""

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
    """Return what `POST /orders` calls, with two checks.

    An order that an exchange reads long after it was sent, because the exchange was paused, must be refused. And if an
    order is rejected, then in some state of the log since it was sent it found nothing to execute on.
    """
    world, sent = host.world, host.world.now
    states = host.monitor.symbols[order.symbol].states
    since = len(states) - 1

    async def route(exchange: Any) -> OrderResult:
        waited = world.now - sent
        result: OrderResult = await exchange.order(order)
        if waited > STALL:
            host.wrong.append(
                f"{order.order_id} was sent at {sent:.3f}, read {waited:.3f} s later, but {result.status}"
            )
        if result.status == "rejected" and all(state.executes(order) for state in islice(states, since, None)):
            text = f"{order.order_id}, sent at {sent:.3f}, is rejected ({result.reason}) at {world.now:.3f}"
            host.wrong.append(f"{text}, but by the log it could execute all the time")
        return result

    return route


class Traders:
    """All clients that send orders.

    Attributes:
        unresolved: orders without a known outcome, with the time at which they were first sent.
        outcomes: how many orders had each outcome.
        filled: the last order that was answered as executed, and when; None without any.
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
        """Close the file of the history."""
        self._history.__exit__(None, None, None)

    async def work(self) -> None:
        """Send orders until the process ends."""
        plan, market = self._host.system.plan, self._host.system.market
        flow = orders("o", market.symbols, max_quantity=16, aggressiveness=0.8, seed=plan.seed)
        async for _ in self._host.every(plan.order_rate):
            order = next(flow)
            once = self._host.random.random() < ONCE
            self._host.begin(self._order_once(order) if once else self.order(order))

    def ordering(self, order: Order) -> Any:
        """Return what `POST /orders` calls."""
        return ordering(order, self._host)

    async def order(self, order: Order) -> str:
        """Send an order until its outcome is known, or the load generator gives up. Return the outcome's name."""
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
        """Send an order once, and wait for longer than an exchange takes to decide.

        A client that is answered that nothing was done may rely on it.
        """
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
                self._host.wrong.append(
                    f"{order.order_id} has executed, but {target} answers that it has not: {answer}"
                )

    def _executed(self, order_id: str) -> None:
        """Handle the execution of an order: from now on, every exchange must answer that it has executed."""
        if self._host.random.random() < CHECK_DISK:
            self._host.world.after(0.05 * self._host.random.random(), self._check_disk)
        order = self._waiting.get(order_id)
        exchanges = self._host.system.of("exchange")
        if order is None or len(exchanges) < 2 or self._host.random.random() > RESEND_ELSEWHERE:
            return
        self._host.world.after(0.0, self._resend_elsewhere, order, self._host.random.choice(exchanges).name)

    def _check_disk(self) -> None:
        """Check that each ledger has on disk what it reports."""
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
                        f"{instance.name} reports position {version} of {symbol}, but its disk has {kept}"
                    )

    def _resend_elsewhere(self, order: Order, target: str) -> None:
        self._host.process.soon(Handle(self._host.begin, (self._check_elsewhere(order, target),), None))

    async def _check_elsewhere(self, order: Order, target: str) -> None:
        asked = self._host.world.now
        self._sender.sent[order.order_id] = asked
        response = await self._host.request(target, self.ordering(order), PATIENCE)
        if response is None or response.status >= 500:
            return
        result = msgspec.json.decode(response.body, type=OrderResult) if response.status == 200 else None
        if result is None or not result.filled_quantity:
            text = f"{result.status} ({result.reason})" if result else str(response.status)
            self._host.wrong.append(f"{order.order_id} had executed, but {target} answers at {asked:.3f}: {text}")

    def _send_again(self, order: Order, filled: int, at: float) -> None:
        if self._host.running:
            self._host.process.soon(Handle(self._host.begin, (self._check_resend(order, filled, at),), None))

    async def _check_resend(self, order: Order, filled: int, at: float) -> None:
        """Resend a filled order: the answer must be the same while its id is remembered."""
        target = self._host.one_of("exchange")
        response = await self._host.request(target, self.ordering(order), ATTEMPT_TIMEOUT)
        if response is None or response.status != 200:
            return
        result = msgspec.json.decode(response.body, type=OrderResult)
        if result.filled_quantity != filled:
            self._host.wrong.append(
                f"{order.order_id} was filled with {filled} lots at {at:.3f}, but {target} answers a resend at "
                f"{self._host.world.now:.3f}: {result.status} ({result.reason}) with {result.filled_quantity}"
            )
