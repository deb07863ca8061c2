"""A minimal order client: sends one order until its outcome is known.

    uv run python examples/order_client.py AAPL buy 3 231.60

The exit code is 0 if anything was filled, 1 if nothing was, 2 if the order was refused, 3 if its outcome is unknown.
EXCHANGE is the exchange's address, or those of several exchanges, separated by commas; they are tried in turn.
If tokens are enabled, TOKEN is a trader's token.
"""

import itertools
import os
import sys
import time
import uuid

import httpx

EXCHANGES = os.environ.get("EXCHANGE", "http://127.0.0.1:8001").split(",")
HEADERS = {"Authorization": f"Bearer {os.environ['TOKEN']}"} if "TOKEN" in os.environ else {}
WINDOW = 100  # seconds: an executed order's id is remembered for 120; after that, the same order would execute again
DOUBT = 6  # seconds for which an unanswered attempt may still execute


def send(order: dict) -> httpx.Response | None:
    """Resend the identical order until it is answered. A rejection is final only if no earlier attempt is in doubt."""
    deadline, doubtful, exchanges = time.monotonic() + WINDOW, False, itertools.cycle(EXCHANGES)
    while time.monotonic() < deadline:
        try:
            response = httpx.post(f"{next(exchanges)}/orders", json=order, headers=HEADERS, timeout=5)
        except httpx.TransportError as error:
            problem = repr(error)
        else:
            if response.status_code != 503 and not (doubtful and response.json().get("status") == "rejected"):
                return response
            problem = response.json().get("title")
        print(problem or "rejected, but an earlier attempt may still execute", "- resending", file=sys.stderr)
        doubtful = problem is not None
        time.sleep(1 if doubtful else DOUBT)
    return None


symbol, side, quantity, limit = sys.argv[1:]
order = {"order_id": uuid.uuid4().hex, "symbol": symbol, "side": side, "quantity": int(quantity), "limit_price": limit}
response = send(order)
if response is None:
    sys.exit(3)
answer = response.json()
if response.status_code != 200:
    print(answer["title"], answer.get("detail", ""))
    sys.exit(2)
for fill in answer["fills"]:
    print(f"{fill['side']} {fill['quantity']} {symbol} at {fill['price']}: {fill['fill_id']}")
print(answer["status"], answer["reason"] or "")
sys.exit(0 if answer["fills"] else 1)
