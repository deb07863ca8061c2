"""Those who use the system: they order, report fills, pause, resume and read, and remember what they were told.

They do as the protocol says: what has no answer is sent again, identical. The order publisher's own code decides when.
"""

import asyncio
import itertools
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from loadgen.answers import Answer, Known, Undelivered, Unknown, classify
from loadgen.client import ATTEMPT_TIMEOUT, Exchange
from loadgen.flow import orders
from loadgen.history import History
from loadgen.http import NotConnected, Response
from simulation import leftovers
from simulation.loop import Handle
from simulation.oracles import Monitor
from simulation.system import System
from simulation.world import Clock, Process, World
from wire.errors import Refused
from wire.messages import (
    Fill,
    Order,
    OrderResult,
    Position,
    Quote,
    QuoteRequest,
    ReservationAnswer,
    ReservationRequest,
)

PATIENCE = 12.0
"""Seconds that an operator waits for an answer."""

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

WITHDRAWN = 0.3
"""The share of quotes by hand beside which whatever is active is withdrawn."""

HAND = "token hand"
"""Who quotes by hand, as services tell askers apart."""

RACE = 0.4
"""The share of quotes by hand that are asked for, and published, by two at the same time."""


class Sender(Exchange):
    """The order publisher's client, over the simulated web."""

    def __init__(self, system: System, process: Process, history: History) -> None:
        super().__init__("http://127.0.0.1:1", 1, asyncio.Event(), history)
        self.sent: dict[str, float] = {}
        self.wrong: list[str] = []
        self._system = system
        self.process = process
        self._targets = itertools.cycle(instance.name for instance in system.of("exchange"))

    async def _post(self, body: bytes, order_id: str) -> Answer:
        order = msgspec.json.decode(body, type=Order)
        self.sent[order_id] = self.process.world.now
        try:
            async with asyncio.timeout(ATTEMPT_TIMEOUT):
                response = await self._system.web.ask(
                    self.process, next(self._targets), ordering(order, self.process.world, self.wrong)
                )
        except NotConnected as error:
            return Undelivered(str(error))
        except OSError as error:
            return Unknown(repr(error))
        return classify(response.status, response.body, response.retry_after, order_id)


def ordering(order: Order, world: World, wrong: list[str]) -> Any:
    """What `POST /orders` calls. One that an exchange reads long after it was sent is refused: it had stood still."""
    sent = world.now

    async def route(exchange: Any) -> OrderResult:
        waited = world.now - sent
        result: OrderResult = await exchange.order(order)
        if waited > STOOD_STILL:
            wrong.append(f"{order.order_id} was sent at {sent:.3f}, read {waited:.3f} s later, and {result.status}")
        return result

    return route


class Turned(msgspec.Struct):
    """A pause or a resume, as its operator saw it: `answered` is when it was acknowledged, None if it was not; `told`
    when there was any answer."""

    paused: bool
    maker: str
    asked: float
    answered: float | None = None
    told: float | None = None


class Clients:
    """All of them.

    Attributes:
        history: the file of what was ordered and answered.
        turns: pauses and resumes, in the order they were asked for.
        wrong: what a client was told that cannot be.
        unresolved: orders whose outcome nobody told in time, with when they were first sent.
        booked: ids of reported fills that were acknowledged.
    """

    def __init__(self, system: System, folder: Path, monitor: Monitor) -> None:
        self.history_path = folder / "history.jsonl"
        self.turns: list[Turned] = []
        self.wrong: list[str] = []
        self.unresolved: list[tuple[Order, float]] = []
        self.outcomes: dict[str, int] = {}
        self.booked: set[str] = set()
        self.asked = 0
        self._system = system
        self._world = system.world
        self.process = Process(self._world, "client", Clock(self._world), 1)
        self._history = History(self.history_path, self.process.clock)
        self._sender = Sender(system, self.process, self._history)
        self._sender.wrong = self.wrong
        self._monitor = monitor
        self._waiting: dict[str, Order] = {}
        monitor.sent = self._sender.sent
        monitor.on_fill = self._executed
        monitor.on_switch = self._switched
        self._running = True
        self._busy: set[asyncio.Task[Any]] = set()
        self._versions: dict[tuple[str, str], int] = {}

    @property
    def idle(self) -> bool:
        """Whether everything that was asked has its end."""
        return not self._busy

    def start(self) -> None:
        """Begin."""
        plan = self._system.plan
        works = [self._orders(), *([self._switch()] if plan.switch_rate else [])]
        works += [self._book()] if plan.booking_rate else []
        works += [self._read()] if plan.read_rate else []
        works += [self._by_hand()] if plan.hand_rate else []

        async def main() -> None:
            async with asyncio.TaskGroup() as group:
                for work in works:
                    group.create_task(work)
                await asyncio.get_running_loop().create_future()

        self.process.start(main(), self._ended)

    def _ended(self, _: Process, error: BaseException | None) -> None:
        self.wrong.append(f"the clients ended: {error!r}")

    def stop(self) -> None:
        """Ask for nothing new."""
        self._running = False

    def close(self) -> None:
        """Write the history out."""
        self._history.__exit__(None, None, None)

    def begin(self, work: Any) -> None:
        """Have something done that ends by itself."""
        task = self.process.loop.create_task(work)
        self._busy.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._busy.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.wrong.append(f"a client failed: {task.exception()!r}")

    async def _every(self, rate: float) -> AsyncIterator[None]:
        while True:
            await asyncio.sleep(self.process.random.expovariate(rate))
            if self._running:
                yield

    # --- orders -----------------------------------------------------------------------------------------------------

    async def _orders(self) -> None:
        plan, market = self._system.plan, self._system.market
        flow = orders("o", market.symbols, max_quantity=16, aggressiveness=0.8, seed=plan.seed)
        async for _ in self._every(plan.order_rate):
            order = next(flow)
            once = self.process.random.random() < ONCE
            self.begin(self._order_once(order) if once else self.order(order))

    def ordering(self, order: Order) -> Any:
        """What `POST /orders` calls."""
        return ordering(order, self._world, self.wrong)

    async def order(self, order: Order) -> str:
        """Send an order until its outcome is known, or patience ends."""
        began = self._world.now
        self.asked += 1
        self._waiting[order.order_id] = order
        outcome = await self._sender.submit(order)
        del self._waiting[order.order_id]
        self.outcomes[outcome.name] = self.outcomes.get(outcome.name, 0) + 1
        if outcome.name in ("unknown", "undelivered"):
            self.unresolved.append((order, began))
        elif outcome.filled and self.process.random.random() < AGAIN:
            self.begin(self._again(order, outcome.filled, self._world.now))
        return outcome.name

    async def _order_once(self, order: Order) -> None:
        """Send an order once, and wait for longer than an exchange does. Who was told that nothing was done may rely on
        that."""
        target = self.process.random.choice(self._system.of("exchange")).name
        self._sender.sent[order.order_id] = self._world.now
        self._history.sent(order, 1)
        answer: Answer
        try:
            async with asyncio.timeout(PATIENCE):
                response = await self._system.web.ask(self.process, target, self.ordering(order))
            answer = classify(response.status, response.body, response.retry_after, order.order_id)
        except NotConnected as error:
            answer = Undelivered(str(error))
        except OSError as error:
            answer = Unknown(repr(error))
        self._history.answered(order.order_id, 1, answer)
        is_sure = isinstance(answer, Undelivered) or (isinstance(answer, Unknown) and not answer.doubtful)
        if is_sure or (isinstance(answer, Known) and (answer.rejected or answer.result is None)):
            self._monitor.never.add(order.order_id)
            if order.order_id in self._monitor.executed:
                self.wrong.append(f"{order.order_id} has executed, and {target} told that it did not: {answer}")

    def _executed(self, order_id: str) -> None:
        """An order is in the log by now. Whoever asks another exchange from now on must be told so."""
        if self.process.random.random() < LOOK_AT_DISK:
            self._world.after(0.05 * self.process.random.random(), self._look_at_disk)
        order = self._waiting.get(order_id)
        exchanges = self._system.of("exchange")
        if order is None or len(exchanges) < 2 or self.process.random.random() > ASK_ELSEWHERE:
            return
        self._world.after(0.0, self._ask_elsewhere, order, self.process.random.choice(exchanges).name)

    def _look_at_disk(self) -> None:
        """What a ledger tells is on its disk."""
        for instance in self._system.of("ledger"):
            path = self._system.folder / f"{instance.name}.sqlite"
            if instance.process is None or instance.service is None or not path.exists():
                continue
            try:
                rows = instance.service.snapshot()
            except Refused:  # it is not open yet
                continue
            told = {row.position.symbol: row.position.position_version for row in rows}
            with closing(sqlite3.connect(path)) as database:
                kept = dict(database.execute("SELECT symbol, position_version FROM positions").fetchall())
            for symbol, version in told.items():
                if version > kept.get(symbol, 0):
                    self.wrong.append(f"{instance.name} tells of position {version} of {symbol}, and keeps {kept}")

    def _ask_elsewhere(self, order: Order, target: str) -> None:
        self.process.soon(Handle(self.begin, (self._told_elsewhere(order, target),), None))

    async def _told_elsewhere(self, order: Order, target: str) -> None:
        asked = self._world.now
        self._sender.sent[order.order_id] = asked
        response = await self.ask(target, self.ordering(order), PATIENCE)
        if response is None or response.status >= 500:
            return
        result = msgspec.json.decode(response.body, type=OrderResult) if response.status == 200 else None
        if result is None or not result.filled_quantity:
            told = f"{result.status} ({result.reason})" if result else str(response.status)
            self.wrong.append(f"{order.order_id} had executed, and {target}, asked at {asked:.3f}, told {told}")

    async def _again(self, order: Order, filled: int, at: float) -> None:
        """Send an order again that was filled: the answer must be the same while its id is remembered."""
        window = self._system.plan.id_window
        await asyncio.sleep(self.process.random.random() * window / 2)
        target = self.process.random.choice(self._system.of("exchange")).name
        response = await self.ask(target, self.ordering(order), ATTEMPT_TIMEOUT)
        if response is None or response.status != 200:
            return
        result = msgspec.json.decode(response.body, type=OrderResult)
        if result.filled_quantity != filled:
            self.wrong.append(
                f"{order.order_id} was filled with {filled} lots at {at:.3f}, and sent again to {target} it is told "
                f"{result.status} ({result.reason}) with {result.filled_quantity} at {self._world.now:.3f}"
            )

    async def ask(self, target: str, route: Any, seconds: float) -> Response | None:
        """Ask once. None without an answer."""
        try:
            async with asyncio.timeout(seconds):
                return await self._system.web.ask(self.process, target, route)
        except OSError:
            return None

    # --- the kill switch ----------------------------------------------------------------------------------------------

    async def _switch(self) -> None:
        async for _ in self._every(self._system.plan.switch_rate):
            maker = self.process.random.choice(self._system.of("maker")).name
            self.begin(self.turn(maker, paused=self.process.random.random() < 0.5))

    async def turn(self, maker: str, *, paused: bool) -> bool:
        """Pause or resume. Whether it was acknowledged."""

        async def route(service: Any) -> Any:
            return await (service.pause() if paused else service.resume())

        turned = Turned(paused, maker, self._world.now)
        self.turns.append(turned)
        self._world.trace.add("client", "asks", f"{maker} to {'pause' if paused else 'resume'}")
        response = await self.ask(maker, route, PATIENCE)
        acknowledged = response is not None and response.status == 200
        if response is not None:
            turned.told = self._world.now
        if acknowledged:
            turned.answered = self._world.now
        self._world.trace.add(
            "client", "is told", f"{response.status if response else 'nothing'} to {'pause' if paused else 'resume'}"
        )
        return acknowledged

    def _switched(self, paused: bool) -> None:  # as the log has it
        """The switch was written: a pause that somebody was told of may not come after a resume of later on."""
        resumes = [turn for turn in self.turns if not turn.paused and turn.answered is not None]
        if not paused or not resumes:
            return
        last = resumes[-1]
        may = [turn for turn in self.turns if turn.paused and (turn.told is None or turn.told >= last.asked)]
        if not may:
            self.wrong.append(
                f"a pause is written at {self._world.now:.3f}, and nobody has asked for one since a resume was asked "
                f"for at {last.asked:.3f} and acknowledged"
            )

    # --- reported fills -----------------------------------------------------------------------------------------------

    async def _book(self) -> None:
        plan, symbols = self._system.plan, list(self._system.market.symbols)
        numbers = itertools.count(1)
        async for _ in self._every(plan.booking_rate):
            self.begin(self._report(self.process.random.choice(symbols), next(numbers)))

    async def _report(self, symbol: str, number: int) -> None:
        chance = self.process.random
        quote = await self._quote(symbol) if chance.random() < 0.5 else None
        side = "buy" if chance.random() < 0.5 else "sell"
        now: datetime = self.process.clock()
        price = self._system.market.symbols[symbol].reference_price
        if quote is not None:
            price = quote.ask_price if side == "buy" else quote.bid_price
        if not price:
            return
        fill = Fill(
            fill_id=f"booked-{number}",
            order_id=f"elsewhere-{number}",
            symbol=symbol,
            side=side,  # type: ignore[arg-type] # it is one of the two
            quantity=chance.randint(1, 3),
            price=price,
            quote_id=quote.quote_id if quote else "elsewhere",
            created_at=now,
        )

        async def route(ledger: Any) -> Position:
            position, _ = await ledger.report(fill)
            return position  # type: ignore[no-any-return] # a ledger's answer

        for _ in range(8):
            ledger = chance.choice(self._system.of("ledger")).name
            response = await self.ask(ledger, route, 6.0)
            if response is not None and response.status == 200:
                self.booked.add(fill.fill_id)
                if chance.random() < RACE:
                    await asyncio.sleep(chance.choice((0.0, 2.0 * chance.random())))
                    again = chance.choice(self._system.of("ledger")).name
                    response = await self.ask(again, route, 6.0)
                    if response is not None and response.status not in (200, 503):
                        self.wrong.append(f"{fill.fill_id} is booked, and reported again to {again}: {response.body!r}")
                return
            if response is not None and response.status != 503:
                if b"set aside" in response.body:  # it was appended, and its id is no other fill's
                    self.wrong.append(f"{fill.fill_id} is refused by {ledger}: {response.body!r}")
                return
            await asyncio.sleep(1.0)

    async def _quote(self, symbol: str) -> Quote | None:
        async def route(exchange: Any) -> Quote:
            return exchange.quote(symbol)  # type: ignore[no-any-return] # an exchange's answer

        response = await self.ask(self.process.random.choice(self._system.of("exchange")).name, route, 2.0)
        if response is None or response.status != 200:
            return None
        return msgspec.json.decode(response.body, type=Quote)

    # --- quotes by hand -----------------------------------------------------------------------------------------------

    async def _by_hand(self) -> None:
        symbols = list(self._system.market.symbols)
        numbers = itertools.count(1)
        async for _ in self._every(self._system.plan.hand_rate):
            symbol = self.process.random.choice(symbols)
            if self.process.random.random() < WITHDRAWN:
                self.begin(self._withdraw(symbol))
            self.begin(self._put(symbol, f"hand-{next(numbers)}"))

    async def _withdraw(self, symbol: str) -> None:
        """Withdraw whatever is active, without a name: what is meant is what the exchange decides it on first."""
        meant: list[str] = []

        async def route(exchange: Any) -> Quote:
            if leftovers.is_idle(exchange, symbol):
                with suppress(Refused):
                    meant.append(exchange.quote(symbol).quote_id)
            return await exchange.withdraw(symbol)  # type: ignore[no-any-return] # an exchange's answer

        target = self.process.random.choice(self._system.of("exchange")).name
        response = await self.ask(target, route, PATIENCE)
        if response is not None and response.status == 200 and meant:
            withdrawn = msgspec.json.decode(response.body, type=Quote).quote_id
            if withdrawn != meant[0]:
                self.wrong.append(f"{target} was to withdraw {meant[0]}, and has withdrawn {withdrawn}")

    async def _put(self, symbol: str, quote_id: str) -> None:
        """Reserve up to the whole limit, as no maker does, and publish what was granted."""
        chance, plan = self.process.random, self._system.plan
        standing = await self._quote(symbol)
        if standing is None:
            return
        bid, ask = chance.randint(0, plan.limit), chance.randint(1, plan.limit)
        wanted = ReservationRequest(quote_id=quote_id, symbol=symbol, bid_quantity=bid, ask_quantity=ask)

        async def reserve(exposure: Any) -> ReservationAnswer:
            return (await exposure.reserve(wanted, HAND)).answer  # type: ignore[no-any-return] # exposure's answer

        answers = [
            msgspec.json.decode(response.body, type=ReservationAnswer)
            for response in await self._race("exposure", reserve)
            if response is not None and response.status == 200
        ]
        grants = [answer.reservation for answer in answers if answer.reservation is not None]
        if not grants:
            return
        first, granted = (of(grants, key=lambda each: each.granted_at) for of in (min, max))
        if first.granted_at != granted.granted_at < first.expires_at:
            self.wrong.append(f"{quote_id} was asked for twice, and granted twice: {answers}")
        reference = self._system.market.symbols[symbol].reference_price
        request = QuoteRequest(
            quote_id=quote_id,
            reservation_id=granted.reservation_id,
            position_version=standing.position_version,
            attempt=standing.attempt + 1,
            bid_price=reference - 1,
            bid_quantity=granted.reserved_bid_quantity,
            ask_price=reference + 1,
            ask_quantity=granted.reserved_ask_quantity,
        )

        async def put(exchange: Any) -> Quote:
            return await exchange.put_quote(symbol, request, HAND)  # type: ignore[no-any-return] # an exchange's answer

        responses = await self._race("exchange", put)
        if not any(response is not None and response.status == 200 for response in responses):

            async def release(exposure: Any) -> Any:
                return await exposure.release(granted.reservation_id)

            await self.ask(chance.choice(self._system.of("exposure")).name, release, 3.0)

    async def _race(self, service: str, route: Any) -> list[Response | None]:
        """Ask an instance of a service; or two, which may be the same, at nearly the same time."""
        chance = self.process.random
        names = [chance.choice(self._system.of(service)).name for _ in range(2 if chance.random() < RACE else 1)]

        async def ask(name: str, after: float) -> Response | None:
            await asyncio.sleep(after)
            return await self.ask(name, route, 3.0)

        delays = [0.0, chance.choice((0.0, 0.01 * chance.random(), chance.random()))]
        return await asyncio.gather(*(ask(name, delay) for name, delay in zip(names, delays, strict=False)))

    # --- reading ----------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        async for _ in self._every(self._system.plan.read_rate):
            self.begin(self._read_positions())
            self.begin(self._read_exposure())

    async def _read_positions(self) -> None:
        async def route(ledger: Any) -> list[Position]:
            return [update.position for update in ledger.snapshot()]

        ledger = self.process.random.choice(self._system.of("ledger")).name
        asked = self._world.now
        before = dict(self._versions)
        response = await self.ask(ledger, route, 2.0)
        if response is None or response.status != 200:
            return
        for position in msgspec.json.decode(response.body, type=list[Position]):
            known = before.get((ledger, position.symbol), 0)
            if position.position_version < known:
                self.wrong.append(
                    f"{ledger} told of position {position.position_version} of {position.symbol} at {asked:.3f}, "
                    f"and of {known} before"
                )
            key = (ledger, position.symbol)
            self._versions[key] = max(self._versions.get(key, 0), position.position_version)

    async def _read_exposure(self) -> None:
        async def route(exposure: Any) -> Any:
            return exposure.exposure()

        exposure = self.process.random.choice(self._system.of("exposure")).name
        response = await self.ask(exposure, route, 2.0)
        if response is None or response.status != 200:
            return
        told = msgspec.json.decode(response.body)
        limit = self._system.market.limit
        if max(told["bid"]["used"], told["ask"]["used"]) > limit:
            self.wrong.append(f"{exposure} told that more than the limit of {limit} is used: {told}")
