"""P8: the cost of an order with ten thousand quoted symbols, and of a reservation with as many live, beside ten."""

import time

import msgspec

from bench.figures import Figure, percentile
from bench.marketlog import Log
from bench.quoting import quote
from bench.stage import CouldNotMeasure, Stage, symbol_names
from bench.trial import Trial
from loadgen.http import Address, Client
from wire import ids
from wire.reservations import ReservationRequest

MANY = 10_000
FEW = 10
CONNECTIONS = 32
REPEATS = 7
SECONDS = 1.5
RESERVATIONS = 200

TRADED = 80_000
"""Lots on each side of the quotes of traded symbols; the others have one."""


class _Scale:
    """A stage with a number of quoted symbols, of which the first few are traded."""

    def __init__(self, trial: Trial, name: str, symbols: int) -> None:
        self.stage = Stage(trial.folder / name, symbol_names(symbols), MARKET_ID_WINDOW=10)
        self.log = Log(self.stage)
        self._trial = trial
        self._attempt = 1

    async def start(self) -> None:
        """Start the services, and quote every symbol."""
        await self.stage.start("nats", "exposure", "exchange")
        await quote(self.stage, 1, self.stage.symbols[FEW:], size=1)
        await self.order_cost()
        await self.reservation_cost()

    async def order_cost(self) -> float:
        """Measure the microseconds per order of an exchange at full load."""
        traded = self.stage.symbols[:FEW]
        self._attempt += 1
        await quote(self.stage, self._attempt, traded, size=TRADED)
        url = self.stage.url("exchange")
        done = await self._trial.load(self.stage, url, traded, CONNECTIONS, self._trial.seconds(SECONDS))
        await self.log.check(done.load.filled)
        return 1e6 / done.load.rate

    async def reservation_cost(self) -> float:
        """Measure the median microseconds of a reservation, one after the other; each is released at once."""
        took = []
        with Client(Address(self.stage.url("exposure")), 1) as client:
            for _ in range(20 if self._trial.short else RESERVATIONS):
                self._attempt += 1
                quote_id = ids.quote_id(self.stage.symbols[0], ids.QuoteVersion(0, 0, self._attempt))
                request = ReservationRequest(
                    quote_id=quote_id, symbol=self.stage.symbols[0], bid_quantity=TRADED, ask_quantity=TRADED
                )
                body = msgspec.json.encode(request)
                began = time.perf_counter()
                answer = await client.request("POST", "/reservations", body)
                took.append((time.perf_counter() - began) * 1e6)
                release = f"/reservations/{ids.reservation_id(quote_id)}/release"
                released = await client.request("POST", release)
                if (answer.status, released.status) != (201, 200):
                    raise CouldNotMeasure(f"no reservation: {answer.body!r} {released.body!r}")
        return percentile(sorted(took), 50)


async def measure(trial: Trial) -> list[Figure]:
    """The cost of an order and of a reservation."""
    many = 200 if trial.short else MANY
    large, small = _Scale(trial, "large", many), _Scale(trial, "small", FEW)
    orders: list[tuple[float, float]] = []
    reservations: list[tuple[float, float]] = []
    async with large.stage, small.stage:
        await small.start()
        began = time.monotonic()
        await large.start()
        trial.report(f"{many:,} symbols quoted in {time.monotonic() - began:.1f} s")
        for _ in range(trial.repeats(REPEATS)):
            orders.append((await large.order_cost(), await small.order_cost()))
            reservations.append((await large.reservation_cost(), await small.reservation_cost()))
    return [
        _figure(f"order, {many:,} symbols quoted or {FEW}", orders),
        _figure(f"reservation, {many:,} live or {FEW}", reservations),
    ]


def _figure(name: str, pairs: list[tuple[float, float]]) -> Figure:
    large, small = ([pair[side] for pair in pairs] for side in (0, 1))
    return Figure(name=name, unit="µs", measured=large, reference=small, target=1.1, at_most=True)
