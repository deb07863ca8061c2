"""The stream of orders: symbol, side, quantity and limit price, drawn from a seed. Pure.

Ordering rule: the n-th order of a seed is always the same, whatever the outcomes of the earlier orders.
"""

import itertools
import random
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Literal

import msgspec

from wire.instruments import Instrument
from wire.orders import Order
from wire.units import MAX_PRICE

CROSSING_OFFSET = Decimal("0.05")
"""How far beyond the reference price the limit of an aggressive order is, as a fraction of it. It is large, because
quotes shift with the makers' inventory, but bounded, so that a runaway inventory meets resistance."""

PASSIVE_BAND = Decimal("0.001")
"""How far from the reference price, on either side, the limit of a passive order may be, as a fraction of it. That is
more than most half-spreads, so some passive orders are marketable and some are not."""


class _Ladder(msgspec.Struct, frozen=True):
    """The prices that orders of one symbol may have, in ticks."""

    symbol: str
    tick: Decimal
    reference: int
    crossing: int
    band: int
    highest: int

    @classmethod
    def of(cls, symbol: str, instrument: Instrument) -> "_Ladder":
        reference = int(instrument.reference_price // instrument.tick)
        return cls(
            symbol=symbol,
            tick=instrument.tick,
            reference=reference,
            crossing=max(1, int(reference * CROSSING_OFFSET)),
            band=max(1, int(reference * PASSIVE_BAND)),
            highest=int(MAX_PRICE // instrument.tick),
        )

    def price(self, ticks: int) -> Decimal:
        """Return the price at `ticks`, or the nearest valid one."""
        return min(max(ticks, 1), self.highest) * self.tick


def orders(
    run_id: str, instruments: Mapping[str, Instrument], *, max_quantity: int, aggressiveness: float, seed: int
) -> Iterator[Order]:
    """Draw an endless stream of orders.

    Args:
        run_id: the prefix of the order ids; nothing else depends on it.
        instruments: the instruments, by symbol; each is drawn equally often.
        max_quantity: quantities are drawn from 1 to this many lots.
        aggressiveness: the share of orders, 0 to 1, whose limit is `CROSSING_OFFSET` beyond the reference price, so
            that they execute against any sensible quote. The limits of the others lie within `PASSIVE_BAND` of it.
        seed: the same seed and arguments draw the same orders.
    """
    ladders = [_Ladder.of(symbol, instruments[symbol]) for symbol in sorted(instruments)]
    draw = random.Random(f"flow-{seed}")
    for number in itertools.count(1):
        ladder = draw.choice(ladders)
        side: Literal["buy", "sell"] = "buy" if draw.random() < 0.5 else "sell"
        quantity = draw.randint(1, max_quantity)
        if draw.random() < aggressiveness:
            ticks = ladder.reference + (ladder.crossing if side == "buy" else -ladder.crossing)
        else:
            ticks = draw.randint(ladder.reference - ladder.band, ladder.reference + ladder.band)
        yield Order(
            order_id=f"{run_id}-{number}",
            symbol=ladder.symbol,
            side=side,
            quantity=quantity,
            limit_price=ladder.price(ticks),
        )
