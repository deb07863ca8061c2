"""The whole system as processes, as a user starts it, with its own ports and data folder."""

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
from stack import process_tree
from stack.isolated_env import environment
from stack.settings import DEFAULT_PORTS, read
from support.broker import PatientConnection
from support.waiting import STACK_HANG, eventually
from wire import subjects
from wire.orders import RecordedFill

SERVICES = tuple(DEFAULT_PORTS)


class Stack:
    """A running system.

    Args:
        folder: for its market file, data and logs.
        symbols: the symbols that it trades, all with the same settings, around 100.00.
        size: lots that a maker quotes on each side of a symbol.
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
        """Start everything, and wait until every service is ready."""
        with (self.folder / "up.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "stack", "up"],
                env=self.environ,
                stdout=log,
                stderr=log,
                preexec_fn=process_tree.die_with_parent,
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
        """Send SIGINT, as Ctrl-C does, and wait until everything is down. Return the exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            return self._process.wait(STACK_HANG)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise

    def output(self) -> str:
        """Return the output of the foreground."""
        return (self.folder / "up.log").read_text()

    def logs(self, service: str) -> list[dict[str, Any]]:
        """Return a service's log lines."""
        text = (self.folder / "data" / "logs" / f"{service}.log").read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def status(self) -> str:
        """Return the output of `status`."""
        return subprocess.run(
            [sys.executable, "-m", "stack", "status"],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=STACK_HANG,
        ).stdout

    def rows(self) -> dict[str, list[str]]:
        """Return the rows that `status` prints, by process."""
        return {row[0]: row for row in (line.split() for line in self.status().splitlines()[1:-1])}

    def pids(self) -> dict[str, int]:
        """Return the ids of the running processes, as reported by supervisord; empty if it does not answer."""
        transport = SupervisorTransport(None, None, f"unix://{self.settings.socket}")
        try:
            with xmlrpc.client.ServerProxy("http://supervisord", transport) as supervisord:
                found: Any = supervisord.supervisor.getAllProcessInfo()
        except (OSError, xmlrpc.client.Error):
            return {}
        return {process["name"]: process["pid"] for process in found if process["pid"]}

    def pid_of(self, name: str) -> int:
        """Wait until a process runs. Return its id."""
        deadline = time.monotonic() + STACK_HANG
        while (pid := self.pids().get(name)) is None:
            assert time.monotonic() < deadline, f"{name} has no process"
            time.sleep(0.05)
        return pid

    def connection(self, user: str = "auditor") -> Connection:
        """Return a connection to its broker as one of the broker's users, to be entered.

        In a cluster, a killed server or a leader that is being elected does not answer: retry the request then.
        """
        kind = PatientConnection if len(self.settings.nats_servers) == 1 else Connection
        return kind(self.nats_url, "test", Health("test"), self.settings.stack.nats_seed(user), self.tls)

    def url(self, service: str, path: str = "") -> str:
        """Return the URL of a path of a service."""
        return f"{self.settings.address(service)}{path}"


class Desk:
    """Sends requests to a running system over HTTP, as its clients do."""

    def __init__(self, stack: Stack, http: httpx.AsyncClient) -> None:
        self.stack = stack
        self.http = http

    async def get(self, service: str, path: str) -> Any:
        """Send a GET, again after each 503. Return the JSON of the response."""
        response = await self.http.get(self.stack.url(service, path))
        while response.status_code == 503:
            await asyncio.sleep(0.05)
            response = await self.http.get(self.stack.url(service, path))
        assert response.status_code == 200, response.text
        return response.json()

    async def post(self, service: str, path: str, body: object = None) -> httpx.Response:
        """Send a POST. Return the response."""
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
        """Send an order, again after each 503. Without a limit it crosses any quote. Return its result."""
        price = limit or ("200.00" if side == "buy" else "1.00")
        body = {"order_id": order_id, "symbol": symbol, "side": side, "quantity": quantity, "limit_price": price}
        response = await self.post(exchange, "/orders", body)
        while response.status_code == 503:
            await asyncio.sleep(0.05)
            response = await self.post(exchange, "/orders", body)
        assert response.status_code == 200, response.text
        return response.json()

    async def reserve(self, quote_id: str, symbol: str, bid: int = 10, ask: int = 10) -> Any:
        """Request a reservation. Return the answer."""
        body = {"quote_id": quote_id, "symbol": symbol, "bid_quantity": bid, "ask_quantity": ask}
        response = await self.post("exposure", "/reservations", body)
        assert response.status_code in (200, 201), response.text
        return response.json()

    def quote_body(self, symbol: str, version: int, attempt: int, quantity: int = 10, **changes: object) -> Any:
        """Return the body of a quote around 100.00, with an id that no maker uses."""
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
        """Put a quote. Return the response."""
        return await self.http.put(self.stack.url("exchange", f"/quotes/{symbol}"), json=body)

    async def quoted(self, symbol: str, quantity: int = 10) -> Any:
        """Reserve and put a quote that is newer than any before. Return the body of the response."""
        attempt = self.stack.attempts[symbol] = self.stack.attempts.get(symbol, 500) + 1
        version = (await self.position(symbol))["position_version"]
        body = self.quote_body(symbol, version, attempt, quantity)
        answer = await self.reserve(body["quote_id"], symbol, quantity, quantity)
        assert answer["outcome"] == "granted", answer
        response = await self.put_quote(symbol, body)
        assert response.status_code == 200, response.text
        return response.json()

    async def position(self, symbol: str) -> Any:
        """Return a symbol's committed position."""
        return await self.get("ledger", f"/positions/{symbol}")

    async def position_becomes(self, symbol: str, net_quantity: int) -> Any:
        """Wait until a symbol's committed position has this quantity. Return the position."""

        async def reached() -> Any:
            position = await self.position(symbol)
            return position if position["net_quantity"] == net_quantity else None

        return await eventually(reached, STACK_HANG)

    async def applied(self, symbol: str, fill: Any) -> Any:
        """Wait until a symbol's committed position includes a fill of the exchange, if given. Return the position."""
        number = int(fill["fill_id"].rpartition("-f")[2]) if fill else 0

        async def there() -> Any:
            position = await self.position(symbol)
            return position if position["position_version"] >= number else None

        return await eventually(there, STACK_HANG)

    async def exposure(self) -> Any:
        """Return the limit and its usage."""
        return await self.get("exposure", "/exposure")

    async def switched(self, route: str, maker: str = "maker") -> None:
        """Pause or resume the makers by `route`, with retries until it is confirmed."""

        async def confirmed() -> bool:
            return (await self.post(maker, route)).status_code == 200

        await eventually(confirmed, STACK_HANG, pause=0.1)

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Pause the makers until the end of the block."""
        await self.switched("/pause")
        try:
            yield
        finally:
            await self.switched("/resume")

    async def cleared(self) -> bool:
        """Withdraw all quotes and release all reservations. Return True if there were none."""
        exposure = await self.exposure()
        for held in exposure["reservations"]:
            await self.http.delete(self.stack.url("exchange", f"/quotes/{held['symbol']}"))
            await self.post("exposure", f"/reservations/{held['reservation_id']}/release")
        return not exposure["reservations"] and exposure["bid"]["used"] == exposure["ask"]["used"] == 0


async def logged_fills(stack: Stack, symbol: str) -> list[RecordedFill]:
    """Return every fill of a symbol in the market log, in order."""
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
