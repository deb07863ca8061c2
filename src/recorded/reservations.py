"""What exposure granted, according to its log and to the services' log files. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from wire.reservations import ReservationRecord


class Grant(NamedTuple):
    """The quantities granted on each side, in lots."""

    bid: int
    ask: int


class Reservations(NamedTuple):
    """Exposure's log as it was read.

    Attributes:
        records: the newest record of each reservation, by its id.
        read_from: the broker's time when reading began.
    """

    records: Mapping[str, ReservationRecord]
    read_from: datetime
