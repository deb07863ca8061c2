"""The whole system as processes, as its user starts it: on ports and a data folder of its own."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
from supervisor.xmlrpc import SupervisorTransport

from jet import api
from jet.connection import Connection
from process import tls
from process.health import Health
from stack.isolated_env import environment
from stack.settings import DEFAULT_PORTS, read
from support.broker import PatientConnection
from support.waiting import STACK_HANG, eventually
from wire import subjects
from wire.orders import RecordedFill

SERVICES = tuple(DEFAULT_PORTS)


class Stack:
    """One running system.

    Args:
        folder: for its market file, data and logs.
        symbols: what it trades, all alike, around 100.00.
        size: lots each symbol wants on each side.
        settings: more settings, as `QS_` variables without the prefix.
    """

    def __init__(self, folder: Path, symbols: Iterable[str], *, size: int = 10, **settings: object) -> None:
        self.folder = folder
        settings = {"MARKET_MAX_BYTES": 64 * 1024 * 1024, **settings}
        self.environ = environment(folder, symbols, size=size, **settings)
        self.settings = read(self.environ)
        self.ports = self.settings.ports
        self.nats_port = self.settings.stack.nats_port
        self.nats_url = self.settings.stack.url
        self.tls = tls.client_context(self.settings.stack)
        self.attempts: dict[str, int] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start everything and wait until every service is ready."""
        with (self.folder / "up.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "stack", "up"], env=self.environ, stdout=log, stderr=log
            )
        deadline = time.monotonic() + STACK_HANG
        waiting = dict(self.ports)
        with httpx.Client(timeout=10, verify=self.tls or False) as http:
            while waiting:
                assert self._process.poll() is None, self.output()
                assert time.monotonic() < deadline, f"not ready: {sorted(waiting)}\n{self.output()}"
                for name in list(waiting):
                    with contextlib.suppress(httpx.HTTPError):
                        if http.get(self.url(name, "/health")).status_code == 200:
                            del waiting[name]
                time.sleep(0.1)

    def stop(self) -> int:
        """Ctrl-C, and wait until everything is down. Returns the exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            return self._process.wait(STACK_HANG)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise

    def output(self) -> str:
        """What the foreground printed."""
        return (self.folder / "up.log").read_text()

    def logs(self, service: str) -> list[dict[str, Any]]:
        """A service's log lines."""
        text = (self.folder / "data" / "logs" / f"{service}.log").read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def status(self) -> str:
        """What `status` tells."""
        return subprocess.run(
            [sys.executable, "-m", "stack", "status"],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=STACK_HANG,
        ).stdout

    def rows(self) -> dict[str, list[str]]:
        """The rows that `status` prints, by process."""
        return {row[0]: row for row in (line.split() for line in self.status().splitlines()[1:-1])}

    def pids(self) -> dict[str, int]:
        """The process ids of what runs, as supervisord tells them; none if it does not."""
        transport = SupervisorTransport(None, None, f"unix://{self.settings.socket}")
        try:
            with xmlrpc.client.ServerProxy("http://supervisord", transport) as supervisord:
                found: Any = supervisord.supervisor.getAllProcessInfo()
        except (OSError, xmlrpc.client.Error):
            return {}
        return {process["name"]: process["pid"] for process in found if process["pid"]}

    def pid_of(self, name: str) -> int:
        """The process id of one, as soon as it has one."""
        deadline = time.monotonic() + STACK_HANG
        while (pid := self.pids().get(name)) is None:
            assert time.monotonic() < deadline, f"{name} has no process"
            time.sleep(0.05)
        return pid

    def connection(self, user: str = "auditor") -> Connection:
        """A connection to its broker, to be entered, as one of the broker's users. Of several servers, those that are
        killed or elected just now do not answer: then ask again."""
        kind = PatientConnection if len(self.settings.nats_servers) == 1 else Connection
        return kind(self.nats_url, "test", Health("test"), self.settings.stack.nats_seed(user), self.tls)

    def url(self, service: str, path: str = "") -> str:
        """Where a service listens."""
        return f"{self.settings.address(service)}{path}"


class Desk:
    """Asks a running system over HTTP, as its clients do."""

    def __init__(self, stack: Stack, http: httpx.AsyncClient) -> None:
        self.stack = stack
        self.http = http

    async def get(self, service: str, path: str) -> Any:
        """The JSON a GET answers. Asked again for as long as 503 says to."""
        response = await self.http.get(self.stack.url(service, path))
        while response.status_code == 503:
            await asyncio.sleep(0.05)
            response = await self.http.get(self.stack.url(service, path))
        assert response.status_code == 200, response.text
        return response.json()

    async def post(self, service: str, path: str, body: object = None) -> httpx.Response:
        """The response to a POST."""
        return await self.http.post(self.stack.url(service, path), json=body)

    async def order(
        self,
        order_id: str,
        symbol: str,
        side: str = "buy",
        quantity: int = 5,
        limit: str = "",
        exchange: str = "exchange",
    ) -> Any:
        """An order that crosses anything, unless given a limit; its result. Sent again for as long as 503 says to."""
        price = limit or ("200.00" if side == "buy" else "1.00")
        body = {"order_id": order_id, "symbol": symbol, "side": side, "quantity": quantity, "limit_price": price}
        response = await self.post(exchange, "/orders", body)
        while response.status_code == 503:
            await asyncio.sleep(0.05)
            response = await self.post(exchange, "/orders", body)
        assert response.status_code == 200, response.text
        return response.json()

    async def reserve(self, quote_id: str, symbol: str, bid: int = 10, ask: int = 10) -> Any:
        """A reservation's answer."""
        body = {"quote_id": quote_id, "symbol": symbol, "bid_quantity": bid, "ask_quantity": ask}
        response = await self.post("exposure", "/reservations", body)
        assert response.status_code in (200, 201), response.text
        return response.json()

    def quote_body(self, symbol: str, version: int, attempt: int, quantity: int = 10, **changes: object) -> Any:
        """A quote around 100.00, by this test and no maker."""
        quote_id = f"{symbol}-test-{version}-{attempt}"
        body = {
            "quote_id": quote_id,
            "reservation_id": f"{quote_id}-r",
            "position_version": version,
            "attempt": attempt,
            "bid_price": "99.90",
            "bid_quantity": quantity,
            "ask_price": "100.10",
            "ask_quantity": quantity,
        }
        return body | changes

    async def put_quote(self, symbol: str, body: Any) -> httpx.Response:
        """The response to a PUT of a quote."""
        return await self.http.put(self.stack.url("exchange", f"/quotes/{symbol}"), json=body)

    async def quoted(self, symbol: str, quantity: int = 10) -> Any:
        """Reserve and make active a quote that is newer than any before; its body as answered."""
        attempt = self.stack.attempts[symbol] = self.stack.attempts.get(symbol, 500) + 1
        version = (await self.position(symbol))["position_version"]
        body = self.quote_body(symbol, version, attempt, quantity)
        answer = await self.reserve(body["quote_id"], symbol, quantity, quantity)
        assert answer["outcome"] == "granted", answer
        response = await self.put_quote(symbol, body)
        assert response.status_code == 200, response.text
        return response.json()

    async def position(self, symbol: str) -> Any:
        """A symbol's committed position."""
        return await self.get("ledger", f"/positions/{symbol}")

    async def position_becomes(self, symbol: str, net_quantity: int) -> Any:
        """Wait until a symbol's committed position is this."""

        async def reached() -> Any:
            position = await self.position(symbol)
            return position if position["net_quantity"] == net_quantity else None

        return await eventually(reached, STACK_HANG)

    async def applied(self, symbol: str, fill: Any) -> Any:
        """Wait until a fill of the exchange, if there is one, is in its symbol's committed position; the position."""
        number = int(fill["fill_id"].rpartition("-f")[2]) if fill else 0

        async def there() -> Any:
            position = await self.position(symbol)
            return position if position["position_version"] >= number else None

        return await eventually(there, STACK_HANG)

    async def exposure(self) -> Any:
        """The limit and its usage."""
        return await self.get("exposure", "/exposure")

    async def switched(self, route: str, maker: str = "maker") -> None:
        """Pause the makers, or resume them: asked again until it is confirmed, as its answer says to."""

        async def confirmed() -> bool:
            return (await self.post(maker, route)).status_code == 200

        await eventually(confirmed, STACK_HANG, pause=0.1)

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """The makers are paused until the end of the block, however that comes."""
        await self.switched("/pause")
        try:
            yield
        finally:
            await self.switched("/resume")

    async def cleared(self) -> bool:
        """Withdraw what is quoted and release what is reserved; whether nothing was left to be."""
        exposure = await self.exposure()
        for held in exposure["reservations"]:
            await self.http.delete(self.stack.url("exchange", f"/quotes/{held['symbol']}"))
            await self.post("exposure", f"/reservations/{held['reservation_id']}/release")
        return not exposure["reservations"] and exposure["bid"]["used"] == exposure["ask"]["used"] == 0


async def logged_fills(stack: Stack, symbol: str) -> list[RecordedFill]:
    """Every fill of a symbol in the market log."""
    shard = subjects.shard_of(symbol, 4)
    fills: list[RecordedFill] = []
    sequence = 0
    async with stack.connection() as connection:
        while True:
            query = {"seq": sequence + 1, "next_by_subj": subjects.fills(shard, symbol)}
            message = await api.get_message(connection, subjects.market_stream(shard), query)
            if message is None:
                return fills
            sequence = message.seq
            fills += msgspec.json.decode(message.payload, type=list[RecordedFill])
