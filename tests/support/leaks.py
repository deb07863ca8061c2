"""Worlds in which one process dies, each with its own account on one nats-server.

In each world, an exposure service and an exchange run inside the test, except the victim, which is a process. The limit
allows for one quote: AAA's, on which the victim works, or BBB's, which can be granted only when everything that AAA
held is free again.
"""

import asyncio
import contextlib
import itertools
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import httpx
import msgspec

from audit.epochs import always
from audit.report import Report
from audit.run import Sources
from audit.run import audit as run_audit
from exchange.service import Exchange
from exposure.service import ExposureService, ExposureSettings
from jet import api, rpc, topology
from jet.connection import Connection
from maker.service import MakerSettings
from process.clock import utc_now
from process.health import Health
from process.settings import load
from stack.isolated_env import SYMBOL
from support.broker import NatsServer, free_port, shape_of, store
from support.exchange import never_paused
from support.forks import Fork, Forks
from support.kill_at import Point, Start
from support.waiting import HANG, STACK_HANG, eventually
from wire import ids, subjects
from wire.errors import Refused
from wire.orders import Order
from wire.quotes import PutQuote, Quote, QuoteActivated, QuoteEvent, QuoteRequest, WithdrawQuote
from wire.reservations import (
    Activate,
    Deactivate,
    LimitUsage,
    ReleaseReservation,
    Reservation,
    ReservationAnswer,
    ReservationRequest,
    UsageRequest,
)
from wire.subjects import Rpc

LIMIT = 10
QUOTE_TTL = 2.0
GRACE = 1.0

T = TypeVar("T")


class ManyAccounts(NatsServer):
    """A nats-server with an account for each world, so that worlds do not see each other."""

    def __init__(self, folder: Path, accounts: int) -> None:
        super().__init__(folder)
        each = (
            f"  w{number}: {{ jetstream: enabled, users: [{{ user: w{number}, password: w }}] }}\n"
            for number in range(accounts)
        )
        config = self._config.read_text().replace("8GB", "1TB")  # the sum of what the streams may use; they use little
        self._config.write_text(f"{config}accounts {{\n{''.join(each)}}}\n")

    def url_of(self, number: int) -> str:
        """Return the address for an account's clients."""
        return f"nats://w{number}:w@127.0.0.1:{self.port}"


class World:
    """One account's services and clients.

    Attributes:
        most: the largest use of the limit that was seen.
        held: True if anything was reserved before everything was free.
    """

    def __init__(self, server: ManyAccounts, number: int, folder: Path, forks: Forks, http: httpx.AsyncClient) -> None:
        self.url = server.url_of(number)
        self.http = http
        self.most = 0
        self.held = False
        self.exchange: Exchange | None = None
        self._folder = folder / f"world-{number}"
        self._folder.mkdir()
        self._forks = forks
        self._started: list[Fork] = []
        self._port = free_port()
        self._environ = {
            "NATS_URL": self.url,
            "QS_MARKET_QUOTE_TTL": str(QUOTE_TTL),
            "QS_MARKET_GRACE": str(GRACE),
            "QS_MARKET_LIMIT": str(LIMIT),
            "QS_MARKET_SHARDS": "1",
            "QS_MARKET_MAX_BYTES": str(64 * 1024 * 1024),
            "QS_EXPOSURE_PORT": "0",
            "QS_MAKER_PORT": "0",
            "QS_EXCHANGE_PORT": str(self._port),
        }
        self.market = load(ExposureSettings, "exposure", self._environ | self._market_file("AAA", "BBB")).market

    def _market_file(self, *symbols: str) -> dict[str, str]:
        path = self._folder / f"{'-'.join(symbols)}.toml"
        path.write_text("".join(SYMBOL.format(name=name, size=LIMIT) for name in symbols))
        return {"QS_MARKET_FILE": str(path)}

    @asynccontextmanager
    async def running(self, victim: str) -> AsyncIterator[None]:
        """Create the streams, and run the services that do not die, for the duration of the block."""
        async with AsyncExitStack() as stack:
            self.connection = await stack.enter_async_context(Connection(self.url, "test", Health("test")))
            self.another = await stack.enter_async_context(Connection(self.url, "test", Health("test")))
            await topology.prepare(self.connection, shape_of(self.market))
            if victim != "exposure":
                health = Health("exposure", "nats", "reservations", "market", "clock")
                settings = load(ExposureSettings, "exposure", self._environ | self._market_file("AAA", "BBB"))
                service = ExposureService(settings, Connection(self.url, "exposure", health), health, utc_now)
                await stack.enter_async_context(_running(service.run, health))
            if victim != "exchange":
                health = Health("exchange", "nats", "market", "clock")
                connection = Connection(self.url, "exchange", health)
                self.exchange = Exchange(self.market, connection, health, utc_now, never_paused())
                await stack.enter_async_context(_running(self.exchange.run, health))
            stack.callback(self._kill)
            yield

    def _kill(self) -> None:
        for fork in self._started:
            fork.kill()

    async def start(self, service: str, point: Point | None = None) -> Fork:
        """Start the victim. A maker knows only AAA."""
        symbols = ["AAA"] if service == "maker" else ["AAA", "BBB"]
        environ = self._environ | self._market_file(*symbols)
        fork = await self._forks.start(Start(service, environ, str(self._folder / f"{service}.log"), point))
        self._started.append(fork)
        return fork

    # --- clients ------------------------------------------------------------------------------------------------------

    async def call(self, subject: str, request: msgspec.Struct, reply: type[T], *, another: bool = False) -> T:
        """Send the identical request until it is answered; with `another`, from a second connection.

        Raises:
            Refused: with a refusal that is not retryable.
        """
        while True:
            try:
                return await rpc.call(self.another if another else self.connection, subject, request, reply)
            except Refused as refused:
                if not refused.refusal.retryable:
                    raise
            await asyncio.sleep(0.02)

    async def reserve(self, symbol: str, attempt: int, *, another: bool = False) -> str:
        """Reserve the whole limit for a quote, as soon as it is free. Return the reservation's id."""
        request = ReservationRequest(
            quote_id=_quote_id(symbol, attempt), symbol=symbol, bid_quantity=LIMIT, ask_quantity=LIMIT
        )

        async def granted() -> bool:
            answer = await self.call(Rpc.RESERVE, request, ReservationAnswer, another=another)
            return answer.outcome != "rejected"

        await eventually(granted, STACK_HANG, pause=0.02)
        return ids.reservation_id(request.quote_id)

    async def activate(self, symbol: str, attempt: int) -> Deactivate:
        """Activate as an exchange would. Return the request that deactivates it again."""
        quote_id = _quote_id(symbol, attempt)
        request = Activate(
            reservation_id=ids.reservation_id(quote_id),
            quote_id=quote_id,
            symbol=symbol,
            position_version=0,
            attempt=attempt,
            bid_quantity=LIMIT,
            ask_quantity=LIMIT,
            activation=f"by-{attempt}",
        )
        await self.call(Rpc.ACTIVATE, request, Reservation)
        return Deactivate(reservation_id=request.reservation_id, activation=request.activation)

    async def deactivate(self, deactivate: Deactivate) -> None:
        """Deactivate as an exchange would."""
        await self.call(Rpc.DEACTIVATE, deactivate, Reservation)

    async def release(self, reservation_id: str) -> None:
        """Release a reservation that was not activated."""
        await self.call(Rpc.RELEASE, ReleaseReservation(reservation_id=reservation_id), Reservation)

    async def put(self, symbol: str, attempt: int, *, another: bool = False) -> Quote:
        """Put a quote whose quantities are reserved."""
        quote_id = _quote_id(symbol, attempt)
        quote = QuoteRequest(
            quote_id=quote_id,
            reservation_id=ids.reservation_id(quote_id),
            position_version=0,
            attempt=attempt,
            bid_price=Decimal("99.90"),
            bid_quantity=LIMIT,
            ask_price=Decimal("100.10"),
            ask_quantity=LIMIT,
        )
        return await self.call(Rpc.PUT_QUOTE, PutQuote(symbol=symbol, quote=quote), Quote, another=another)

    async def quoted(self, symbol: str) -> int:
        """Reserve and put a quote that is newer than any before. Return its attempt."""
        for attempt in itertools.count(500):
            with contextlib.suppress(Refused):  # a machine may be too slow for a quote's short life
                await self.reserve(symbol, attempt)
                await self.put(symbol, attempt)
                return attempt
        raise AssertionError("attempts do not end")

    async def withdraw(self, symbol: str, attempt: int) -> None:
        """Withdraw a symbol's quote.

        Raises:
            Refused: it is not active.
        """
        request = WithdrawQuote(symbol=symbol, quote_id=_quote_id(symbol, attempt))
        await self.call(Rpc.WITHDRAW_QUOTE, request, Quote)

    async def order(self, order: Order) -> None:
        """Send an order to the victim."""
        body = msgspec.to_builtins(order)
        (await self.http.post(f"http://127.0.0.1:{self._port}/orders", json=body)).raise_for_status()

    async def passed(self) -> None:
        """Wait until exposure has advanced the time of its log, because a reservation is due to expire."""

        async def moved() -> bool:
            last = await self._last(subjects.EXPOSURE_STREAM, subjects.DECISIONS)
            return last is not None and last.payload == b"[]"

        await eventually(moved, STACK_HANG, pause=0.05)

    # --- observation --------------------------------------------------------------------------------------------------

    async def used(self) -> int | None:
        """Return the lots in use on the side that uses more; None if exposure does not answer."""
        try:
            usage = await rpc.call(self.connection, Rpc.USAGE, UsageRequest(), LimitUsage, timeout=0.5)
        except Refused:
            return None
        used = max(usage.bid.used, usage.ask.used)
        self.most = max(self.most, used)
        return used

    async def reference(self) -> float:
        """Measure how long the broker, as busy as it is, keeps a message whose TTL is the longest allowed."""
        config = {"name": "REFERENCE", "subjects": ["reference"], "storage": "file", "allow_msg_ttl": True}
        await api.request(self.connection, "STREAM.CREATE.REFERENCE", config, dict, timeout=HANG)
        await store(self.connection, "REFERENCE", "reference", b"", ttl=math.ceil(QUOTE_TTL + GRACE))
        began = utc_now()

        async def gone() -> bool:
            return await api.get_message(self.connection, "REFERENCE", {"last_by_subj": "reference"}) is None

        await eventually(gone, STACK_HANG, pause=0.1)
        return (utc_now() - began).total_seconds()

    async def freed(self) -> datetime:
        """Wait until nothing of the limit is in use. Return the time since when.

        If a reservation expired, this is the broker's time, because noticing it takes a moment.
        """

        async def free() -> datetime | None:
            return utc_now() if await self.used() == 0 else None

        seen: datetime = await eventually(free, STACK_HANG, pause=0.05)  # type: ignore[arg-type] # it is one, or polled again
        last = await self._last(subjects.EXPOSURE_STREAM, subjects.DECISIONS)
        self.held = last is not None
        return min(seen, last.time) if last else seen

    def quotes_aaa(self) -> bool:
        """Return True if AAA has a quote. The exchange must not be the victim."""
        assert self.exchange is not None
        return any(quote.symbol == "AAA" for quote in self.exchange.quotes())

    async def backed_until(self) -> datetime | None:
        """Return when AAA's latest quote ended or will end; None if there was none. Nothing may be in flight."""
        last = await self._last(subjects.market_stream(0), subjects.quotes(0, "AAA"))
        if last is None:
            return None
        event = msgspec.json.decode(last.payload, type=QuoteEvent)
        return event.expires_at if isinstance(event, QuoteActivated) else last.time

    async def _last(self, stream: str, subject: str) -> api.StoredMessage | None:
        return await api.get_message(self.connection, stream, {"last_by_subj": subject}, timeout=STACK_HANG)

    async def audit(self) -> Report:
        """Audit the logs of this world, with the settings of a maker."""
        settings = load(MakerSettings, "maker", self._environ | self._market_file("AAA"))
        sources = Sources(self.url, settings.market, self._folder, (), (), always(settings.market))
        return await run_audit(self.connection, sources, lambda *_: None)


@asynccontextmanager
async def _running(run: Callable[[], Awaitable[None]], health: Health) -> AsyncIterator[None]:
    async def forever() -> None:
        await run()

    task = asyncio.create_task(forever())
    try:
        await eventually(lambda: health.ready or task.done())
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _quote_id(symbol: str, attempt: int) -> str:
    """Return an id that no maker would use."""
    return f"{symbol}-by-hand-{attempt}"
