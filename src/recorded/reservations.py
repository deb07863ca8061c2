"""What exposure granted, as its log and the services' logs have it. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from wire.reservations import ReservationRecord


class Grant(NamedTuple):
    """What exposure says it granted."""

    bid: int
    ask: int


class Reservations(NamedTuple):
    """Exposure's log as it was found.

    Attributes:
        records: the newest of each reservation, by its id.
        read_from: the broker's time when reading began.
    """

    records: Mapping[str, ReservationRecord]
    read_from: datetime
