"""The page's service, in this process or in its own, and the data that it reads: positions, quotes, fills, usage."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import msgspec

from jet import journal, rpc
from jet.connection import Connection
from jet.journal import Appended, Compare
from jet.switch_log import KEY, STREAM
from process.clock import Clock, utc_now
from process.health import Health
from process.settings import Stack
from stack import process_tree
from support.access import auth_headers
from support.broker import Broker, free_port, store
from support.builders import fill, position_update, quote_activated, recorded_fill
from support.http import plain_client
from support.http import served as http_served
from support.waiting import eventually
from ui.api import DESCRIPTION, pages, routes
from ui.service import PARTS, UiService, UiSettings
from web.app import create_app
from web.roles import Role
from wire import subjects
from wire.processes import ProcessReport
from wire.quotes import QuoteWithdrawn
from wire.reservations import LimitUsage, SideUsage, UsageRequest
from wire.switches import QuotingSwitch


class Feed:
    """Writes the data that the page reads, with current times."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.used = (60, 40)
        self._numbers: dict[str, int] = {}

    async def position(self, symbol: str, net: int, version: int, realized: str | None = "0", **last_fill: Any) -> None:
        """Publish a position that was opened at 100 per lot, and its last fill; without money if `realized` is None."""
        led = fill(**{"symbol": symbol, "created_at": utc_now()} | last_fill)
        update = position_update(
            symbol,
            net_quantity=net,
            position_version=version,
            last_fill_id=led.fill_id,
            updated_at=led.created_at,
            last_fill=led,
            **({} if realized is None else _money(net, version, Decimal(realized))),
        )
        await self.put(subjects.POSITIONS_STREAM, subjects.position(symbol), msgspec.json.encode(update))

    async def quote(self, symbol: str, **changes: Any) -> None:
        """Append an activated quote; `lifetime` is in seconds."""
        quote = quote_activated(symbol, **({"activated_at": utc_now(), "lifetime": 600.0} | changes))
        await self._market(subjects.quotes, symbol, msgspec.json.encode(quote))

    async def withdraw(self, symbol: str) -> None:
        """Append the withdrawal of the symbol's first quote."""
        quote = quote_activated(symbol)
        event = QuoteWithdrawn(
            symbol=symbol,
            quote_id=quote.quote_id,
            reservation_id=quote.reservation_id,
            position_version=quote.position_version,
            attempt=quote.attempt,
            withdrawn_at=utc_now(),
        )
        await self._market(subjects.quotes, symbol, msgspec.json.encode(event))

    async def fills(self, symbol: str, number: int, **changes: Any) -> None:
        """Append a recorded fill, after all earlier fills of the symbol that are missing."""
        before, self._numbers[symbol] = self._numbers.get(symbol, 0), number
        if number > before + 1:
            led = [recorded_fill(symbol, each, created_at=utc_now()) for each in range(before + 1, number)]
            await self._market(subjects.fills, symbol, msgspec.json.encode(led))
        fills = [recorded_fill(symbol, number, created_at=utc_now(), **changes)]
        await self._market(subjects.fills, symbol, msgspec.json.encode(fills))

    async def turn(self, *, paused: bool, by: str = "", ago: timedelta = timedelta()) -> datetime:
        """Append a change of the kill switch, now or some time ago. Return its time."""
        turn = QuotingSwitch(paused=paused, at=utc_now() - ago)
        outcome = await journal.append(
            self.broker.connection,
            STREAM,
            KEY,
            msgspec.json.encode(turn),
            msg_id=uuid4().hex,
            compare=Compare(await self._head(), KEY),
            headers={journal.ASKED_BY: by} if by else {},
        )
        assert isinstance(outcome, Appended)
        return turn.at

    async def _head(self) -> int:
        last = await journal.last_message(self.broker.connection, STREAM, KEY)
        return last.seq if last else 0

    @asynccontextmanager
    async def process(self, service: str, name: str, **fields: Any) -> AsyncIterator[None]:
        """Run a process of a service that answers the request to all processes."""
        report = ProcessReport(**({"process": name, "uptime": 60.0, "ready": True} | fields))
        task = asyncio.create_task(rpc.serve(self.broker.connection, service, [], report=lambda _: report))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def put(self, stream: str, subject: str, payload: bytes) -> None:
        """Store any message."""
        await store(self.broker.connection, stream, subject, payload)

    async def _market(self, subject: Any, symbol: str, payload: bytes) -> None:
        shard = subjects.shard_of(symbol, self.broker.market.shards)
        await self.put(subjects.market_stream(shard), subject(shard, symbol), payload)

    @asynccontextmanager
    async def exposure(self) -> AsyncIterator[None]:
        """Run an exposure service that reports `used`."""

        async def usage(_: UsageRequest) -> LimitUsage:
            bid, ask = self.used
            return LimitUsage(
                limit=100,
                bid=SideUsage(used=bid, free=100 - bid),
                ask=SideUsage(used=ask, free=100 - ask),
                live=8,
            )

        handlers = [rpc.Handler(subjects.Rpc.USAGE, UsageRequest, usage)]
        task = asyncio.create_task(rpc.serve(self.broker.connection, "exposure", handlers))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


class Page:
    """The page's service in this process, at the address `url`."""

    def __init__(self, service: UiService, health: Health, url: str, client: httpx.AsyncClient) -> None:
        self.service = service
        self.health = health
        self.url = url
        self.stream_url = f"{url.replace('http', 'ws')}/stream"
        self.client = client


@asynccontextmanager
async def served(broker: Broker, clock: Clock = utc_now, notices: str = "") -> AsyncIterator[Page]:
    """Run the service on the test's broker, behind a real HTTP server; `notices` is a chaos run's file of notices."""
    port = free_port()
    settings = UiSettings(market=broker.market, stack=Stack(nats_url=broker.url), port=port, notices=notices)
    health = Health("ui", *PARTS)
    service = UiService(settings, Connection(broker.url, "ui", health), health, clock)
    app = create_app(title="ui", description=DESCRIPTION, health=health, routes=routes(service), static=pages())
    running = asyncio.create_task(service.run())
    url = f"http://127.0.0.1:{port}"
    try:
        async with http_served(app, port=port), plain_client(url) as client:
            yield Page(service, health, url, client)
    finally:
        running.cancel()
        await asyncio.wait([running])


@asynccontextmanager
async def reading(broker: Broker, notices: str = "") -> AsyncIterator[Page]:
    """Run the service, and wait until it has read all data."""
    async with served(broker, notices=notices) as page:
        await eventually(lambda: not {part.name for part in page.health.report().waiting_for} - {"exposure"})
        yield page


class PageProcess:
    """The service as a process that a test may stop, pause and start again on the same port.

    `settings` are more environment variables.
    """

    def __init__(self, broker: Broker, folder: Path, **settings: object) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        market = folder / "market.toml"
        market.write_text(_toml(broker))
        self._environ = {
            "PATH": os.environ["PATH"],
            "NATS_URL": broker.url,
            "QS_MARKET_FILE": str(market),
            "QS_UI_PORT": str(self.port),
            "QS_STACK_DATA_DIR": str(folder),
            **{name: str(value) for name, value in settings.items()},
        }
        self._log = folder / "ui.log"
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it, and wait until it has read all data."""
        self._launch()
        async with plain_client() as client:

            async def reads() -> bool:
                answer = await client.get(f"{self.url}/health", headers=auth_headers(Role.READER))
                waiting = answer.json()["waiting_for"]
                return not {part["name"] for part in waiting} - {"exposure"}

            try:
                await eventually(reads, pause=0.05)

            except Exception as error:
                raise AssertionError(self._log.read_text()) from error

    def _launch(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ui"],
                env=self._environ,
                stdout=log,
                stderr=log,
                preexec_fn=process_tree.die_with_parent,
            )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal: SIGSTOP pauses, SIGCONT resumes."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _money(net: int, volume: int, realized: Decimal) -> dict[str, Any]:
    return {
        "cash": realized - 100 * net,
        "average_price": Decimal(100) if net else None,
        "realized": realized,
        "fees": Decimal("0.25"),
        "volume": volume,
        "multiplier": Decimal(1),
    }


def _toml(broker: Broker) -> str:
    """Return the test's market as the text of a market file."""
    lines = ["[market]", f"shards = {broker.market.shards}"]
    for symbol, instrument in broker.market.symbols.items():
        values = {key: value for key, value in msgspec.to_builtins(instrument).items() if value is not None}
        lines += [f"[symbols.{symbol}]", *(f"{key} = {value!r}" for key, value in values.items())]
    return "\n".join(lines)
