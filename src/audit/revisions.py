"""Every definition that there ever was: what each quote was made from, and which limit was in force when."""

from datetime import datetime, timedelta
from typing import NamedTuple

from wire.definitions import KEPT, Terms, definition, listing_of, symbol_of
from wire.instruments import Instrument, Listing


class _Agreed(NamedTuple):
    sequence: int
    time: datetime
    terms: Terms


class _Defined(NamedTuple):
    sequence: int
    instrument: Instrument


class Revisions:
    """Feed it the bucket `instruments`, from its first message on. What is no definition is passed over."""

    def __init__(self) -> None:
        self._agreed: list[_Agreed] = []
        self._defined: dict[str, list[_Defined]] = {}

    def add(self, sequence: int, time: datetime, key: str, value: bytes) -> None:
        """The next message of the bucket, stored at that time."""
        try:
            found = definition(key, value)
        except ValueError:
            return
        if isinstance(found, Terms):
            self._agreed.append(_Agreed(sequence, time, found))
        else:
            self._defined.setdefault(symbol_of(key), []).append(_Defined(sequence, found))

    def is_forgotten(self, symbol: str, revision: int) -> bool:
        """Whether the bucket may have kept that revision once, and does no more."""
        own = self._defined.get(symbol, [])
        return any(len(kept) >= KEPT and revision < kept[0].sequence for kept in (own, self._agreed))

    def listing(self, symbol: str, revision: int) -> Listing | None:
        """The instrument as it stood by that revision; None if it never had that one."""
        terms = next((each for each in reversed(self._agreed) if each.sequence <= revision), None)
        own = next((each for each in reversed(self._defined.get(symbol, [])) if each.sequence <= revision), None)
        if terms is None or own is None or revision not in (terms.sequence, own.sequence):
            return None
        return listing_of(own.instrument, terms.terms, revision)

    @property
    def limits(self) -> int:
        """How many different limits there were."""
        return len({agreed.terms.limit for agreed in self._agreed})

    def limit(self, time: datetime) -> int | None:
        """The most that may be active at that time: the limit in force, or one before it by which a reservation that
        may live on was granted. None while none was in force."""
        most: int | None = None
        until: datetime | None = None  # when the terms were replaced
        for agreed in reversed(self._agreed):
            if agreed.time > time:
                continue
            life = timedelta(seconds=agreed.terms.quote_ttl + agreed.terms.grace)
            if until is not None and until + life < time:
                break
            most = max(most or 0, agreed.terms.limit)
            until = agreed.time
        return most
