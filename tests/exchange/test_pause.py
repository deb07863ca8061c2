"""A real exchange process that is paused while orders arrive."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from exchange.stall_detector import STALL
from jet import journal
from support.broker import Broker, free_port
from support.exchange import ExposureStandIn
from support.http import plain_client
from support.waiting import HANG, eventually, passes
from wire import subjects

MARKET = """
[market]
shards = 2
[symbols.AAA]
tick = "0.01"
reference_price = "100.00"
quote_size = 10
gamma = "0.1"
k = "20"
a = "1"
sigma = "0.3"
"""

QUOTE = {
    "quote_id": "AAA-v0-a1",
    "reservation_id": "AAA-v0-a1-r",
    "position_version": 0,
    "attempt": 1,
    "bid_price": "99.90",
    "bid_quantity": 10,
    "ask_price": "100.10",
    "ask_quantity": 10,
}

WAITING = 300
"""Far more connections than ten passes of the event loop accept."""


class Exchange:
    """An exchange process."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"


@pytest.fixture
async def exchange_process(broker: Broker, exposure: ExposureStandIn, tmp_path: Path) -> AsyncIterator[Exchange]:
    """An exchange process on the test's broker, with an active quote."""
    (tmp_path / "market.toml").write_text(MARKET)
    port = free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QS_")}
    environ = kept | {
        "QS_MARKET_FILE": str(tmp_path / "market.toml"),
        "QS_EXCHANGE_PORT": str(port),
        "NATS_URL": broker.url,
    }
    with (tmp_path / "exchange.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "exchange", env=environ, stdout=log)
    running = Exchange(process, port)
    async with plain_client(running.url) as http:

        async def quoted() -> bool:
            return (await http.put("/quotes/AAA", json=QUOTE)).status_code == 200

        await eventually(quoted, pause=0.05)
    yield running
    process.kill()
    await process.wait()


def _order(order_id: str) -> dict[str, object]:
    return {"order_id": order_id, "symbol": "AAA", "side": "buy", "quantity": 1, "limit_price": "200.00"}


def _request(order_id: str) -> bytes:
    body = json.dumps(_order(order_id)).encode()
    head = "POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def test_orders_that_arrived_during_a_pause_are_not_executed(broker: Broker, exchange_process: Exchange) -> None:
    """Their clients have given up, and may have received "rejected" from another exchange since."""
    exchange_process.process.send_signal(signal.SIGSTOP)
    clients = []
    for number in range(WAITING):
        client = socket.create_connection(("127.0.0.1", exchange_process.port))
        client.sendall(_request(f"waited-{number}"))
        clients.append(client)
    await passes(STALL + 0.2)
    for client in clients[::2]:
        client.close()
    exchange_process.process.send_signal(signal.SIGCONT)
    for client in clients[1::2]:
        client.settimeout(HANG)
        answer = await asyncio.to_thread(client.recv, 4096)
        assert b" 503 " in answer.partition(b"\r\n")[0]
        client.close()
    shard = subjects.shard_of("AAA", broker.market.shards)
    stream, fills = subjects.market_stream(shard), subjects.fills(shard, "AAA")
    assert await journal.last_sequence(broker.connection, stream, fills) == 0

    async with plain_client(exchange_process.url) as http:

        async def filled() -> bool:
            return (await http.post("/orders", json=_order("afterwards"))).status_code == 200

        await eventually(filled)
