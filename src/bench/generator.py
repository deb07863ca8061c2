"""The load generator: a process of its own that sends orders and times the answers.

Closed loop: every connection sends its next order as soon as the last one is answered. Open loop: orders are sent when
they are due, answered or not, and latency counts from then. `python -m bench.generator` takes a `Job` on its standard
input, as JSON, and prints a `Load`.
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
"""Seconds that the last answers may take; what has none then is lost."""

MOST_PRECISE = 900
"""Connections up to which orders of an open loop are sent to some 50 µs: `select` takes no more. With more of them they
are sent in bundles, a millisecond apart."""

_FILLED = b'"status":"filled"'
_REJECTED = b'"status":"rejected"'
_DIGITS = 9


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to send.

    Attributes:
        url: the server's.
        prefix: of the order ids, unique over jobs.
        symbols: taken in turn; each gets buys and sells in turn, of one lot, at limits that cross any quote.
        connections: how many.
        seconds: how long to measure.
        warm_up: seconds before that.
        rate: orders per second in an open loop; None for a closed loop.
        give_up: whether an order that finds no free connection is not sent, rather than to wait for one.
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
    """What came of a job.

    Attributes:
        rate: answers per second while it was measured.
        sent: orders sent altogether.
        unsent: orders that found no free connection, and were given up.
        filled: of them, answered as filled.
        rejected: of them, answered as rejected: they found nothing to execute against.
        refused: of them, answered otherwise.
        latencies: of answers while it was measured, in milliseconds, sorted; a sample of 2,000 at most.
        refusals: the same of the orders that were refused, which `latencies` leaves out.
        lags: milliseconds that orders of an open loop were late when the generator came round to them, likewise.
        processor: microseconds of processor time that the generator used an order.
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
    """Numbered orders, all but their number encoded beforehand."""

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
        """The next order, as a request."""
        number = self.count
        self.count = number + 1
        before, after = self._forms[number % len(self._forms)]
        return before + b"%09d" % number + after


class Answers:
    """Counts answers, and times those that come while it is measured."""

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
        """Count an answer to what was sent, or due, at `since`."""
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
        """Send each order when it is due; those that find no free connection wait for one, and that counts."""
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
        self._rest()

    def _rest(self) -> None:
        """Tell when the last answer has come."""
        if not self._since and not self._sending:
            self._settled.set()

    def _ended(self, connection: Connection, error: Exception | None) -> None:
        if self._sending or connection in self._since:
            self._dropped = f"a connection ended while it was in use: {error}"
            self._since.pop(connection, None)
            self._rest()

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
    """Evenly chosen values of a sorted sequence, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    return [values[round(number * (len(values) - 1) / (most - 1))] for number in range(most)]


def _milliseconds(seconds: Iterable[float]) -> list[float]:
    return [round(value * 1000, 4) for value in thinned(sorted(seconds), 2000)]


def _processor() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _precise_loop() -> asyncio.AbstractEventLoop:
    """An event loop whose timers are exact to some 50 µs: those of uvloop and of epoll count whole milliseconds."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


def main() -> None:
    """Do the job on the standard input."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    exactly = job.rate is not None and job.connections <= MOST_PRECISE
    factory = _precise_loop if exactly else uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        load = runner.run(_Generator(job).run())
    sys.stdout.buffer.write(msgspec.json.encode(load))


if __name__ == "__main__":
    main()
