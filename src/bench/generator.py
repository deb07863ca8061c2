"""The benchmarks' load generator: a separate process that sends orders and measures the latency of the answers.

In a closed loop, every connection sends its next order as soon as the previous one is answered. In an open loop, orders
are sent when they are due, answered or not, and latency counts from that time. `python -m bench.generator` reads a
`Job` from its standard input, as JSON, and prints a `Load`.

It is not the load generator in `loadgen`, of which it uses only the HTTP connection. That one draws realistic orders,
resends each until its outcome is known, and can record a history for the audit. This one must use much less processor
time than the exchange that it measures: it encodes orders beforehand, never resends, and only counts the answers.
"""

import asyncio
import resource
import selectors
import sys
import time
from array import array
from collections import deque
from collections.abc import Iterable, Sequence

import msgspec
import uvloop

from loadgen.http import Address, Connection, Response

SETTLE = 10.0
"""Seconds that the last answers may take; after that the job fails."""

MOST_PRECISE = 900
"""The largest number of connections with which an open loop is precise to some 50 µs: `select` supports few more. With
more connections, orders are sent in bursts, a millisecond apart."""

_FILLED = b'"status":"filled"'
_REJECTED = b'"status":"rejected"'
_DIGITS = 9


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """The orders to send.

    Attributes:
        url: the server's address.
        prefix: the prefix of the order ids, unique among jobs.
        symbols: the symbols, in turn; each gets buys and sells in turn, of one lot, at limits that cross any quote.
        connections: the number of connections.
        seconds: how long to measure.
        warm_up: seconds of sending before the measurement.
        rate: orders per second in an open loop; None for a closed loop.
        give_up: True to drop an order that finds no free connection; otherwise it waits for one.
    """

    url: str
    prefix: str
    symbols: list[str]
    connections: int
    seconds: float
    warm_up: float = 0.5
    rate: float | None = None
    give_up: bool = False


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a job.

    Attributes:
        rate: answers per second during the measurement.
        sent: orders sent in total, including the warm-up.
        unsent: orders that found no free connection, and were dropped.
        filled: sent orders that were answered as filled.
        rejected: sent orders that were answered as rejected: they found nothing to execute against.
        refused: sent orders that were answered otherwise.
        latencies: of answers during the measurement, in milliseconds, sorted; a sample of at most 2,000.
        refusals: the same for refused orders, which `latencies` does not include.
        lags: milliseconds by which the generator handled orders of an open loop late, likewise.
        processor: microseconds of the generator's processor time per order.
        example: an answer that was not a fill, for a person.
    """

    rate: float
    sent: int
    unsent: int
    filled: int
    rejected: int
    refused: int
    latencies: list[float]
    refusals: list[float]
    lags: list[float]
    processor: float
    example: str = ""


class Requests:
    """Numbered orders, of which all but the number is encoded beforehand."""

    def __init__(self, job: Job) -> None:
        address = Address(job.url)
        self.count = 0
        self._forms: list[tuple[bytes, bytes]] = []
        for side, limit in (("buy", "200.00"), ("sell", "1.00")):
            for symbol in job.symbols:
                number = "0" * _DIGITS
                body = (
                    f'{{"order_id":"{job.prefix}-{number}","symbol":"{symbol}","side":"{side}",'
                    f'"quantity":1,"limit_price":"{limit}"}}'
                ).encode()
                before, _, after = address.request("POST", "/orders", body).partition(number.encode())
                self._forms.append((before, after))

    def next(self) -> bytes:
        """Return the next order, as an HTTP request."""
        number = self.count
        self.count = number + 1
        before, after = self._forms[number % len(self._forms)]
        return before + b"%09d" % number + after


class Answers:
    """Counts answers, and keeps the latencies of those that arrive during the measurement."""

    def __init__(self, opens: float, closes: float) -> None:
        self.filled = 0
        self.rejected = 0
        self.refused = 0
        self.counted = 0
        self.example = ""
        self.latencies = array("d")
        self.refusals = array("d")
        self._opens = opens
        self._closes = closes

    def take(self, response: Response, since: float, now: float) -> None:
        """Count an answer to an order that was sent, or due, at `since`."""
        latencies = self.latencies
        if response.status == 200 and _FILLED in response.body:
            self.filled += 1
        else:
            if response.status == 200 and _REJECTED in response.body:
                self.rejected += 1
            else:
                self.refused += 1
                latencies = self.refusals
            self.example = f"{response.status}: {response.body[:300]!r}"
        if self._opens <= now < self._closes:
            self.counted += 1
            latencies.append(now - since)


class _Generator:
    def __init__(self, job: Job) -> None:
        self.job = job
        self.requests = Requests(job)
        self.lags = array("d")
        self.unsent = 0
        self._since: dict[Connection, float] = {}
        self._idle: deque[Connection] = deque()
        self._all: list[Connection] = []
        self._settled = asyncio.Event()
        self._sending = True
        self._dropped = ""

    async def run(self) -> Load:
        job, loop = self.job, asyncio.get_running_loop()
        address = Address(job.url)
        for _ in range(job.connections):
            _, connection = await loop.create_connection(
                lambda: Connection(self._answered, self._ended), address.host, address.port
            )
            self._all.append(connection)
        used = _processor()
        self._starts = time.monotonic()
        self._opens = self._starts + job.warm_up
        self._closes = self._opens + job.seconds
        self.answers = Answers(self._opens, self._closes)
        if job.rate is None:
            for connection in self._all:
                self._send(connection, time.monotonic())
            await asyncio.sleep(max(0.0, self._closes - time.monotonic()))
        else:
            await self._on_schedule(job.rate)
        self._sending = False
        if self._since:
            async with asyncio.timeout(SETTLE):
                await self._settled.wait()
        used = _processor() - used
        if self._dropped:
            raise RuntimeError(self._dropped)
        for connection in self._all:
            connection.close()
        return self._load(used * 1e6 / self.requests.count)

    async def _on_schedule(self, rate: float) -> None:
        """Send each order when it is due. An order that finds no free connection waits, which counts as latency."""
        self._idle.extend(self._all)
        self._due: deque[float] = deque()
        number = 0
        while (intended := self._starts + number / rate) < self._closes:
            while (now := time.monotonic()) < intended:  # noqa: ASYNC110 # it waits for a time, not for an event
                await asyncio.sleep(intended - now)
            self.lags.append(now - intended)
            number += 1
            if self._idle:
                self._send(self._idle.popleft(), intended)
            elif self.job.give_up:
                self.unsent += 1
            else:
                self._due.append(intended)

    def _send(self, connection: Connection, since: float) -> None:
        self._since[connection] = since
        connection.send(self.requests.next())

    def _answered(self, connection: Connection, response: Response) -> None:
        now = time.monotonic()
        self.answers.take(response, self._since.pop(connection), now)
        if not connection.usable:
            pass
        elif self.job.rate is None:
            if now < self._closes and self._sending:
                self._send(connection, now)
        elif self._due:
            self._send(connection, self._due.popleft())
        else:
            self._idle.append(connection)
        self._check_settled()

    def _check_settled(self) -> None:
        """Set the event `_settled` after the last answer."""
        if not self._since and not self._sending:
            self._settled.set()

    def _ended(self, connection: Connection, error: Exception | None) -> None:
        if self._sending or connection in self._since:
            self._dropped = f"a connection ended while it was in use: {error}"
            self._since.pop(connection, None)
            self._check_settled()

    def _load(self, processor: float) -> Load:
        answers = self.answers
        return Load(
            rate=answers.counted / self.job.seconds,
            sent=self.requests.count,
            unsent=self.unsent,
            filled=answers.filled,
            rejected=answers.rejected,
            refused=answers.refused,
            latencies=_milliseconds(answers.latencies),
            refusals=_milliseconds(answers.refusals),
            lags=_milliseconds(self.lags),
            processor=processor,
            example=answers.example,
        )


def thinned(values: Sequence[float], most: int) -> list[float]:
    """Return at most `most` evenly chosen values of a sorted sequence, including the first and the last."""
    if len(values) <= most:
        return list(values)
    return [values[round(number * (len(values) - 1) / (most - 1))] for number in range(most)]


def _milliseconds(seconds: Iterable[float]) -> list[float]:
    return [round(value * 1000, 4) for value in thinned(sorted(seconds), 2000)]


def _processor() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _precise_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop with timers precise to some 50 µs: those of uvloop and epoll count whole milliseconds."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


def main() -> None:
    """Run the job on the standard input."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    exactly = job.rate is not None and job.connections <= MOST_PRECISE
    factory = _precise_loop if exactly else uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        load = runner.run(_Generator(job).run())
    sys.stdout.buffer.write(msgspec.json.encode(load))


if __name__ == "__main__":
    main()
