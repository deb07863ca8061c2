"""A minimal feed of reference prices. If tokens are enabled, TOKEN needs the role `feed`, and `reader` for `walk`.

uv run python examples/feed.py walk 10           # a random walk of all symbols, 10 times per second
uv run python examples/feed.py csv prices.csv    # lines of time,symbol,price, with times in seconds
"""

import csv
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path

import httpx

URL = os.environ.get("EXCHANGE", "http://127.0.0.1:8001")
HEADERS = {"Authorization": f"Bearer {os.environ['TOKEN']}"} if "TOKEN" in os.environ else {}


def walk(rate: float) -> Iterator[tuple[float, dict[str, str]]]:
    """Yield times and prices: each price moves by up to three ticks, and is pulled back to its first value."""
    listed = httpx.get(f"{URL}/instruments", headers=HEADERS, timeout=5).raise_for_status().json()
    begun = {each["symbol"]: (Decimal(each["reference"]), Decimal(each["tick"])) for each in listed}
    steps = dict.fromkeys(begun, 0)
    for number in range(sys.maxsize):
        steps = {symbol: round(step * 0.99) + random.randint(-3, 3) for symbol, step in steps.items()}
        yield number / rate, {symbol: str(begun[symbol][0] + step * begun[symbol][1]) for symbol, step in steps.items()}


def replay(path: str) -> Iterator[tuple[float, dict[str, str]]]:
    """Return an iterator of times and prices from a file, which is read completely first."""
    with Path(path).open(newline="") as file:
        rows = csv.reader(file)
        try:
            if next(rows, None) != ["time", "symbol", "price"]:
                raise ValueError
            found = [(float(when), {symbol: str(Decimal(price))}) for when, symbol, price in rows]
        except (ValueError, InvalidOperation) as error:
            raise ValueError(f"line {rows.line_num} is not time,symbol,price") from error
    return ((when - found[0][0], prices) for when, prices in found)


begun, client = time.monotonic(), httpx.Client(headers=HEADERS, timeout=5)
try:
    for when, prices in {"walk": lambda: walk(float(sys.argv[2])), "csv": lambda: replay(sys.argv[2])}[sys.argv[1]]():
        time.sleep(max(0.0, begun + when - time.monotonic()))
        with suppress(httpx.TransportError):  # newer prices come soon
            answer = client.put(f"{URL}/references", json={"time": datetime.now(UTC).isoformat(), "prices": prices})
            if "title" in answer.json():
                print(answer.json().get("title"), answer.json().get("detail", ""), flush=True)
except KeyboardInterrupt:
    pass
except (ValueError, OSError, IndexError, KeyError, httpx.HTTPError) as error:
    print(f"{' '.join(sys.argv[1:])}: {error}", file=sys.stderr)
    sys.exit(2)
