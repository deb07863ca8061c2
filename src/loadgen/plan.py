"""The parameters of a run."""

import msgspec

from wire.instruments import Instrument


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of a run.

    Attributes:
        run_id: the prefix of its order ids, unique to the run.
        url: the base URL of the exchange; those of several are separated by commas.
        rate: orders per second, on average.
        duration: the length of the schedule, in seconds; None: until it is stopped.
        instruments: the instruments, by symbol.
        max_quantity: the largest order, in lots.
        concurrency: the most requests in flight.
        aggressiveness: the share of orders, 0 to 1, priced to cross any sensible quote.
        seed: the seed of the orders and of their schedule.
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
