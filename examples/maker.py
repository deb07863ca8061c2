"""A minimal maker: quotes one symbol around a fixed price that leans against the inventory. Pause other makers first:
two makers with different prices keep replacing each other's quotes. If tokens are enabled, TOKEN is a maker's token.

    uv run python examples/maker.py AAPL 231.50 0.01
"""

import os
import sys
import time
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from signal import SIG_DFL, SIGINT, signal
from threading import Event

import httpx

PORTS = {"EXCHANGE": 8001, "LEDGER": 8002, "EXPOSURE": 8003}  # a variable such as LEDGER sets another address
HEADERS = {"Authorization": f"Bearer {os.environ['TOKEN']}"} if "TOKEN" in os.environ else {}
URLS = {name: os.environ.get(name, f"http://127.0.0.1:{port}") for name, port in PORTS.items()}


def call(method: str, service: str, path: str, body: dict | None = None) -> dict:
    """Resend a request until it is answered: every request is idempotent. A refusal is a dict with a title."""
    while True:
        with suppress(httpx.TransportError):  # no connection, or no answer
            response = httpx.request(method, URLS[service] + path, json=body, headers=HEADERS, timeout=5)
            if response.status_code != 503:
                return response.json()
        time.sleep(0.5)


def quote(symbol: str, bid: Decimal, offer: Decimal, version: int, attempt: int) -> float:
    """Reserve, and publish a quote of the granted size. Return the seconds until the next quote is due."""
    wanted = {"quote_id": f"example-{symbol}-v{version}-a{attempt}", "bid_quantity": 5, "ask_quantity": 5}
    answer = call("POST", "EXPOSURE", "/reservations", {**wanted, "symbol": symbol})
    if held := answer.get("reservation"):
        wanted |= {"bid_quantity": held["reserved_bid_quantity"], "ask_quantity": held["reserved_ask_quantity"]}
        wanted |= {"position_version": version, "attempt": attempt, "reservation_id": held["reservation_id"]}
        wanted |= {"bid_price": str(bid), "ask_price": str(offer)}
        answer = call("PUT", "EXCHANGE", f"/quotes/{symbol}", wanted)
    print(wanted["quote_id"], answer.get("title") or answer.get("reason") or f"{bid} / {offer}", flush=True)
    if held and "title" in answer:
        call("POST", "EXPOSURE", f"/reservations/{held['reservation_id']}/release")
    times = [datetime.fromisoformat(answer[key]) for key in ("activated_at", "expires_at") if "expires_at" in answer]
    return (times[1] - times[0]).total_seconds() * 2 / 3 if times else 0.5


symbol, mid, tick, version, attempt, next_at = sys.argv[1], Decimal(sys.argv[2]), Decimal(sys.argv[3]), -1, 0, 0.0
stopped = Event()  # checked between requests: a quote that is still on its way could not be withdrawn
signal(SIGINT, lambda *_: (stopped.set(), signal(SIGINT, SIG_DFL)))
while not stopped.wait(0.05):
    position = call("GET", "LEDGER", f"/positions/{symbol}")
    if position["position_version"] > version:
        version, attempt, next_at = position["position_version"], 0, 0.0
    if time.monotonic() >= next_at:
        attempt, fair = attempt + 1, mid - tick * position["net_quantity"]
        next_at = time.monotonic() + quote(symbol, fair - 5 * tick, fair + 5 * tick, version, attempt)
call("DELETE", "EXCHANGE", f"/quotes/{symbol}?quote_id=example-{symbol}-v{version}-a{attempt}")
