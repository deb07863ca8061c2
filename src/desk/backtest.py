"""The makers' strategy alone, in a market that behaves as its model says. Pure: a seeded source of chance is passed in.

The assumptions are those of the model (docs/protocol.md, "Pricing"):

- The mid is a Brownian motion that begins at the reference price: it moves by σ·√t in t seconds.
- Orders come to each side as a Poisson process, are for one lot, and reach prices up to some distance from the mid, or
  beyond it: A·exp(−k·δ) a second reach a quote that is δ away. What reaches a quote fills it.
- A maker's reference price is the mid, to the nearest tick. Quotes follow it, and the inventory, at once.

All makers are in the same market: they see the same mid and the same orders, none takes an order from another, and so
the difference between two of them is theirs.

Between two orders nothing depends on the mid but by how much of a tick it is off the reference price. So time goes from
order to order: the next comes after an exponential time, at the highest rate that this leaves possible, and one that
then reaches no quote never was (thinning). Nothing is approximated by steps of time.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import NamedTuple

from maker.pricing import prices
from wire.instruments import Instrument

MOST_LOTS = 1000
"""The largest limit, and the largest inventory, that is looked at."""

_NEGLIGIBLE = 1e-12
_LARGEST_EXPONENT = 700.0
"""exp of more is no float."""


class Offsets(NamedTuple):
    """How far below and above the reference price bid and ask are, in units of price; infinite: not quoted."""

    bid: float
    ask: float


@dataclass(frozen=True, slots=True)
class Maker:
    """A way to quote: where bid and ask are at an inventory, in lots."""

    name: str
    offsets: Callable[[int], Offsets]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one maker on one path.

    Attributes:
        cash: money, after fees.
        inventory: lots, at the end.
        mid: the price at the end.
        profit: cash, and the inventory at the mid; money.
        captured: what the profit would be had the mid stood still: of each fill the distance between its price and
            the mid, minus fees; money.
        fills: lots bought and sold.
        mean_inventory: the average over time of the inventory's absolute value, in lots.
        largest_inventory: the largest absolute value, in lots.
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
    """A time in seconds, the mid then, and each maker's inventory from then on."""

    time: float
    mid: float
    inventories: tuple[int, ...]


def skewed(instrument: Instrument) -> Maker:
    """The makers of Quotestream: both prices move with the inventory."""
    most = instrument.max_position

    @cache
    def offsets(inventory: int) -> Offsets:
        return _within(most, inventory, _offsets(instrument, inventory))

    return Maker("skewed", offsets)


def fixed(instrument: Instrument, limit: int | None = None) -> Maker:
    """A maker that always quotes the prices of a flat inventory, but no side that would lead beyond `limit` lots."""
    flat = _offsets(instrument, 0)
    most = min((lots for lots in (limit, instrument.max_position) if lots is not None), default=None)

    @cache
    def offsets(inventory: int) -> Offsets:
        return _within(most, inventory, flat)

    return Maker("fixed, no limit" if limit is None else f"fixed, limit {limit}", offsets)


class Expected(NamedTuple):
    """What a maker comes to in the long run: its mean absolute inventory, in lots, and what it captures of the spread,
    in units of price per second."""

    inventory: float
    captured: float


def expected(instrument: Instrument, maker: Maker) -> Expected:
    """What the model expects of a maker, not counting what a mid between two ticks changes.

    The inventory goes up and down by one, so in the long run p(q+1)/p(q) is the rate of buying at q by that of selling
    at q+1: exp(−k·(δ_bid(q) − δ_ask(q+1))). A maker that does not lean against its inventory goes on for ever; it is
    counted up to `MOST_LOTS`.
    """
    a, k = float(instrument.a), float(instrument.k)
    total, inventory, captured = 1.0, 0.0, _gain(a, k, maker.offsets(0))
    for direction in (1, -1):
        share = 1.0
        for lots in range(1, MOST_LOTS + 1):
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
    """The smallest limit with which a maker without skew is expected to hold as much as the skewed one."""
    ours = expected(instrument, skewed(instrument)).inventory
    # Every inventory within the limit L is as likely as any other.
    return next((lots for lots in range(1, MOST_LOTS) if lots * (lots + 1) / (2 * lots + 1) >= ours), MOST_LOTS)


def limit_for_profit(instrument: Instrument) -> int:
    """The largest limit with which a maker without skew is expected to earn no more than the skewed one; at least 1."""
    ours = expected(instrument, skewed(instrument)).captured
    always = _gain(float(instrument.a), float(instrument.k), _offsets(instrument, 0))
    # At either end of 2L + 1 inventories, one of the two sides is not quoted.
    return next(
        (lots for lots in range(1, MOST_LOTS) if always * 2 * (lots + 1) / (2 * (lots + 1) + 1) > ours), MOST_LOTS
    )


def _gain(a: float, k: float, offsets: Offsets) -> float:
    return sum(a * _exp(-k * offset) * offset for offset in offsets if math.isfinite(offset))


def _exp(power: float) -> float:
    return math.exp(min(power, _LARGEST_EXPONENT))


def run(
    instrument: Instrument, makers: Sequence[Maker], seconds: float, random: Random, track: list[Moment] | None = None
) -> list[Outcome]:
    """One path of the market for so many seconds, and what came of each maker in it.

    Args:
        instrument: what is traded.
        makers: who quotes; all begin with nothing.
        seconds: how long.
        random: all chance is drawn from it.
        track: is given the beginning, each moment at which an order filled a quote, and the end.
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
            # Where the mid is nearest to a quote, it is half a tick off the reference price.
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
        """The maker buys a lot (1) or sells one (-1) at a price that is so far on its side of the mid."""
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
        """What came of it by the end."""
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
    """A time until the next of what happens so often; infinite if it never does."""
    return -math.log(1.0 - random.random()) / rate if rate > 0 else math.inf


def _offsets(instrument: Instrument, inventory: int) -> Offsets:
    bid, ask = prices(instrument, inventory)
    reference = instrument.reference_price
    return Offsets(
        math.inf if bid is None else float(reference - bid), math.inf if ask is None else float(ask - reference)
    )


def _within(most: int | None, inventory: int, offsets: Offsets) -> Offsets:
    """The offsets, without a side that would lead beyond so many lots."""
    if most is None:
        return offsets
    return Offsets(offsets.bid if inventory < most else math.inf, offsets.ask if inventory > -most else math.inf)
