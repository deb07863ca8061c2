"""What one run is asked to do."""

import msgspec

from wire.instruments import Instrument


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One run.

    Attributes:
        run_id: prefix of its order ids, unique over runs.
        url: the exchange; several are separated by commas.
        rate: orders per second, on average.
        duration: seconds over which orders are due; None runs until it is stopped.
        instruments: what is traded, by symbol.
        max_quantity: the largest order, in lots.
        concurrency: requests in flight, at most.
        aggressiveness: the share of orders priced to cross any sensible quote.
        seed: of the orders and their schedule.
    """

    run_id: str
    url: str
    rate: float
    duration: float | None
    instruments: dict[str, Instrument]
    max_quantity: int
    concurrency: int
    aggressiveness: float
    seed: int
