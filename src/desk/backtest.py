"""Simulates the makers' strategy in a market that follows its model. Pure: the random generator is an argument.

The assumptions are those of the model (docs/protocol.md, "Pricing"):

- The mid is a Brownian motion that starts at the reference price, with a standard deviation of σ·√t after t seconds.
- On each side, orders for one lot arrive as a Poisson process: A·exp(−k·δ) per second reach a quote at a distance δ
  from the mid, which may be negative. An order that reaches a quote fills it.
- A maker's reference price is the mid, rounded to the nearest tick. Quotes follow it and the inventory immediately.

All makers see the same mid and the same orders, and none takes an order from another. So two makers differ only by
their quotes.

Between two orders, only the distance of the mid from the reference price matters, which is at most half a tick. So the
simulation steps from order to order: the next one arrives after an exponential time at the highest rate that is
possible, and is discarded if it then reaches no quote (thinning). There is no time step, so no discretization error.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import NamedTuple

from maker.pricing import prices
from wire.instruments import Instrument

MAX_LOTS = 1000
"""The largest limit, and the largest inventory in the expectations, in lots."""

_NEGLIGIBLE = 1e-12
_LARGEST_EXPONENT = 700.0
"""exp of a larger number overflows."""


class Offsets(NamedTuple):
    """How far the bid is below the reference price, and the ask above it, in units of price; infinite if not quoted."""

    bid: float
    ask: float


@dataclass(frozen=True, slots=True)
class Maker:
    """A quoting strategy: the offsets of bid and ask by inventory, in lots."""

    name: str
    offsets: Callable[[int], Offsets]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one maker on one path.

    Attributes:
        cash: in money, after fees.
        inventory: in lots, at the end.
        mid: the price at the end.
        profit: cash plus the inventory valued at the mid, in money.
        captured: the distances of all fills from the mid, minus fees, in money: the profit if the mid did not move.
        fills: lots bought and sold.
        mean_inventory: the time average of the absolute inventory, in lots.
        largest_inventory: the largest absolute inventory, in lots.
    """

    cash: float
    inventory: int
    mid: float
    profit: float
    captured: float
    fills: int
    mean_inventory: float
    largest_inventory: int


class Moment(NamedTuple):
    """A time in seconds, the mid at that time, and each maker's inventory from then on."""

    time: float
    mid: float
    inventories: tuple[int, ...]


def skewed(instrument: Instrument) -> Maker:
    """Return the strategy of Quotestream's makers: both prices move with the inventory."""
    bound = instrument.max_position

    @cache
    def offsets(inventory: int) -> Offsets:
        return _within(bound, inventory, _offsets(instrument, inventory))

    return Maker("skewed", offsets)


def fixed(instrument: Instrument, limit: int | None = None) -> Maker:
    """Return a maker that always quotes the prices of a flat inventory, but no side that would exceed `limit` lots."""
    flat = _offsets(instrument, 0)
    bound = min((lots for lots in (limit, instrument.max_position) if lots is not None), default=None)

    @cache
    def offsets(inventory: int) -> Offsets:
        return _within(bound, inventory, flat)

    return Maker("fixed, no limit" if limit is None else f"fixed, limit {limit}", offsets)


class Expected(NamedTuple):
    """The long-run averages of a maker: its absolute inventory in lots, and what it captures of the spread, in units of
    price per second."""

    inventory: float
    captured: float


def expected(instrument: Instrument, maker: Maker) -> Expected:
    """Return the model's expectation for a maker. It ignores that the mid may lie between two ticks.

    The inventory changes by one lot at a time. So in the stationary distribution, p(q+1)/p(q) is the rate of buying at
    q divided by the rate of selling at q+1: exp(−k·(δ_bid(q) − δ_ask(q+1))). A maker with neither skew nor a
    limit has no stationary distribution; it is cut off at `MAX_LOTS`.
    """
    a, k = float(instrument.a), float(instrument.k)
    total, inventory, captured = 1.0, 0.0, _gain(a, k, maker.offsets(0))
    for direction in (1, -1):
        share = 1.0
        for lots in range(1, MAX_LOTS + 1):
            near, far = maker.offsets(direction * (lots - 1)), maker.offsets(direction * lots)
            there, back = (near.bid, far.ask) if direction > 0 else (near.ask, far.bid)
            if math.isinf(there) or math.isinf(back):
                break
            share *= _exp(-k * (there - back))
            total += share
            inventory += share * lots
            captured += share * _gain(a, k, far)
            if share < _NEGLIGIBLE * total:
                break
    return Expected(inventory / total, captured / total)


def limit_for_inventory(instrument: Instrument) -> int:
    """Return the smallest limit with which a maker without skew is expected to hold as much as the skewed one."""
    ours = expected(instrument, skewed(instrument)).inventory
    # Without skew, all inventories within the limit L are equally likely.
    return next((lots for lots in range(1, MAX_LOTS) if lots * (lots + 1) / (2 * lots + 1) >= ours), MAX_LOTS)


def limit_for_profit(instrument: Instrument) -> int:
    """Return the largest limit, at least 1, with which a maker without skew is expected to earn no more than the skewed
    one."""
    ours = expected(instrument, skewed(instrument)).captured
    always = _gain(float(instrument.a), float(instrument.k), _offsets(instrument, 0))
    # Of the 2L + 1 inventories, the two at the ends quote only one side.
    return next(
        (lots for lots in range(1, MAX_LOTS) if always * 2 * (lots + 1) / (2 * (lots + 1) + 1) > ours), MAX_LOTS
    )


def _gain(a: float, k: float, offsets: Offsets) -> float:
    return sum(a * _exp(-k * offset) * offset for offset in offsets if math.isfinite(offset))


def _exp(power: float) -> float:
    return math.exp(min(power, _LARGEST_EXPONENT))


def run(
    instrument: Instrument, makers: Sequence[Maker], seconds: float, random: Random, track: list[Moment] | None = None
) -> list[Outcome]:
    """Simulate one path of the market, and return each maker's outcome.

    Args:
        instrument: what is traded.
        makers: all start flat and without cash.
        seconds: the length of the path.
        random: the source of all random numbers.
        track: if given, the start, each moment at which an order fills a quote, and the end are appended to it.
    """
    a, k, sigma, tick = (float(value) for value in (instrument.a, instrument.k, instrument.sigma, instrument.tick))
    start, half_tick = float(instrument.reference_price), float(instrument.tick) / 2
    books = [_Book(maker, instrument) for maker in makers]
    time = moved = rate = bid_rate = nearest_bid = nearest_ask = 0.0
    if track is not None:
        track.append(Moment(0.0, start, (0,) * len(books)))
    changed = True
    while True:
        if changed:
            # The mid is at most half a tick from the reference price, so this is the nearest that a quote can be.
            nearest_bid = min([book.quote.bid for book in books]) - half_tick
            nearest_ask = min([book.quote.ask for book in books]) - half_tick
            bid_rate = a * _exp(-k * nearest_bid)
            rate = bid_rate + a * _exp(-k * nearest_ask)
            changed = False
        wait = min(_exponential(random, rate), seconds - time)
        time += wait
        moved += random.gauss(0.0, sigma * math.sqrt(wait))
        if time >= seconds:
            break
        reference = round(moved / tick) * tick
        off = moved - reference
        if random.random() * rate < bid_rate:
            reach = nearest_bid + _exponential(random, k)
            for book in books:
                if book.quote.bid + off <= reach:
                    book.fill(1, time, start + reference - book.quote.bid, book.quote.bid + off)
                    changed = True
        else:
            reach = nearest_ask + _exponential(random, k)
            for book in books:
                if book.quote.ask - off <= reach:
                    book.fill(-1, time, start + reference + book.quote.ask, book.quote.ask - off)
                    changed = True
        if track is not None and changed:
            track.append(Moment(time, start + moved, tuple(book.inventory for book in books)))
    if track is not None:
        track.append(Moment(seconds, start + moved, tuple(book.inventory for book in books)))
    return [book.outcome(seconds, start + moved) for book in books]


class _Book:
    """One maker's inventory and money on a path."""

    __slots__ = (
        "_area",
        "_captured",
        "_cash",
        "_fee_rate",
        "_fills",
        "_largest",
        "_multiplier",
        "_offsets",
        "_since",
        "inventory",
        "quote",
    )

    def __init__(self, maker: Maker, instrument: Instrument) -> None:
        self._offsets = maker.offsets
        self._multiplier = float(instrument.multiplier)
        self._fee_rate = float(instrument.fee_rate)
        self.inventory = self._largest = self._fills = 0
        self._cash = self._captured = self._area = self._since = 0.0
        self.quote = maker.offsets(0)

    def fill(self, lots: int, time: float, price: float, distance: float) -> None:
        """Buy a lot (1) or sell one (-1) at a price that is `distance` better than the mid for the maker."""
        fee = abs(price) * self._multiplier * self._fee_rate
        self._cash -= lots * price * self._multiplier + fee
        self._captured += distance * self._multiplier - fee
        self._fills += 1
        self._area += abs(self.inventory) * (time - self._since)
        self._since = time
        self.inventory += lots
        self._largest = max(self._largest, abs(self.inventory))
        self.quote = self._offsets(self.inventory)

    def outcome(self, seconds: float, mid: float) -> Outcome:
        """Return the result at the end of the path."""
        return Outcome(
            cash=self._cash,
            inventory=self.inventory,
            mid=mid,
            profit=self._cash + self.inventory * mid * self._multiplier,
            captured=self._captured,
            fills=self._fills,
            mean_inventory=(self._area + abs(self.inventory) * (seconds - self._since)) / seconds,
            largest_inventory=self._largest,
        )


def _exponential(random: Random, rate: float) -> float:
    """Draw an exponential waiting time; infinite if the rate is 0."""
    return -math.log(1.0 - random.random()) / rate if rate > 0 else math.inf


def _offsets(instrument: Instrument, inventory: int) -> Offsets:
    bid, ask = prices(instrument, inventory)
    reference = instrument.reference_price
    return Offsets(
        math.inf if bid is None else float(reference - bid), math.inf if ask is None else float(ask - reference)
    )


def _within(bound: int | None, inventory: int, offsets: Offsets) -> Offsets:
    """Return the offsets, without a side that would exceed `bound` lots."""
    if bound is None:
        return offsets
    return Offsets(offsets.bid if inventory < bound else math.inf, offsets.ask if inventory > -bound else math.inf)
