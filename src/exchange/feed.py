"""Reference prices from feeds: checks and gathers them, and writes them to the bucket `instruments` in one message.

Prices that arrive while a message is in flight, or within `MIN_INTERVAL` of the last one, wait for the next. For each
symbol only the newest waits, by the time of its source. So feeds may send as often as they like, and are answered when
their prices, or newer ones, are on disk.

The message holds the whole table, and is appended only if the bucket has not changed since it was read. So several
exchanges, and operators who define instruments, may write to the bucket at the same time.
"""

import asyncio
import secrets
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from exchange import metrics
from jet import journal
from jet.connection import Connection
from jet.journal import Appended, Compare
from jet.listings import STREAM, Listings
from wire import subjects
from wire.definitions import Definitions, updated_references
from wire.errors import Refusal, Refused
from wire.instruments import Listing
from wire.references import MAX_AGE, MAX_AHEAD, REFERENCES, FeedPrice, PutReferences, ReferencesTaken, milliseconds
from wire.units import FieldError, check_plain, check_price, check_tick, with_decimals_of

MIN_INTERVAL = 0.1
"""Seconds between the starts of two writes, at least."""

DEADLINE = 5.0
"""Seconds to wait until a message is stored. After that, its outcome is reported as unknown."""

MAX_NAMED = 20
"""Symbols that a refusal names, at most."""

Prices = Mapping[str, FeedPrice]
"""Reference prices by symbol."""


def checked(request: PutReferences, known: Definitions, now: datetime) -> Prices:
    """Return the prices in the form in which they are stored.

    Raises:
        Refused: INVALID_FIELD or UNKNOWN_SYMBOL: at least one price is not acceptable. The refusal names the first such
            field, and its detail gives the reasons for all, or for the first `MAX_NAMED`.
    """
    age = (now - request.time).total_seconds()
    if age > MAX_AGE.total_seconds():
        detail = f"`time` is {age:.3f} s ago, and prices that are older than {MAX_AGE.total_seconds():g} s are too old"
        raise Refused(Refusal.INVALID_FIELD, detail, field="time")
    if age < -MAX_AHEAD.total_seconds():
        detail = f"`time` is {-age:.3f} s in the future, by the broker's clock"
        raise Refused(Refusal.INVALID_FIELD, detail, field="time")
    at = milliseconds(request.time)
    found: dict[str, FeedPrice] = {}
    wrong: list[FieldError] = []
    unknown: list[FieldError] = []
    for symbol, price in request.prices.items():
        listing = known.listing(symbol)
        if listing is None:
            name = symbol if subjects.is_name(symbol) else ascii(symbol[:40])
            unknown.append(FieldError(f"prices.{name}", "is the price of no symbol that is traded here"))
            continue
        try:
            _check(symbol, price, listing, request.time, age)
        except FieldError as error:
            wrong.append(error)
        else:
            instrument = listing.instrument
            found[symbol] = FeedPrice(with_decimals_of(instrument.tick, price), at, instrument.reference_price)
    if wrong or unknown:
        refused = [*wrong, *unknown]
        errors = "; ".join(str(error) for error in refused[:MAX_NAMED])
        more = f"; and {len(refused) - MAX_NAMED} more" if len(refused) > MAX_NAMED else ""
        refusal = Refusal.INVALID_FIELD if wrong else Refusal.UNKNOWN_SYMBOL
        raise Refused(refusal, f"{errors}{more}: nothing was stored", field=refused[0].field)
    return found


def check_room(prices: Prices, waiting: Prices, known: Definitions) -> None:
    """Check that the table has room for these prices and those that wait, so that only these are refused if not.

    Raises:
        Refused: INVALID_FIELD.
    """
    if prices.keys() <= known.references.keys():
        return
    try:
        updated_references(known, {**waiting, **prices})
    except FieldError as error:
        raise Refused(Refusal.INVALID_FIELD, f"{error}: nothing was stored", field=error.field) from error


def _check(symbol: str, price: Decimal, listing: Listing, time: datetime, age: float) -> None:
    """Check one price.

    Raises:
        FieldError: the price is not acceptable, or too old.
    """
    field, instrument, before = f"prices.{symbol}", listing.instrument, listing.reference_price
    check_price(field, price)
    check_plain(field, price)
    check_tick(field, price, instrument.tick)
    if abs(price - before) > instrument.reference_band * before:
        raise FieldError(field, f"is further than {instrument.reference_band} of it from {before}, which is in force")
    if instrument.reference_ttl is not None and age > instrument.reference_ttl:
        raise FieldError(
            "time", f"is {age:.3f} s ago, and {symbol} has a `reference_ttl` of {instrument.reference_ttl:g} s"
        )
    if listing.priced_at is not None and time < listing.priced_at:
        raise FieldError("time", f"is before that of the price of {symbol} in force: {listing.priced_at.isoformat()}")


class Feed:
    """Gathers prices and writes them. `run` must run as a task."""

    def __init__(self, connection: Connection, listings: Listings) -> None:
        """The caller must keep `listings` running."""
        self._connection = connection
        self._listings = listings
        self._gathered: dict[str, FeedPrice] = {}
        self._writing: Prices = {}
        self._askers: set[str] = set()
        self._stored: asyncio.Future[int] | None = None
        self._arrived = asyncio.Event()

    async def put(self, request: PutReferences, now: datetime, by: str) -> ReferencesTaken:
        """Store these reference prices, as requested by `by`. A repeated request does no harm.

        Raises:
            Refused: as in `checked` and `check_room`, and nothing is changed; UNAVAILABLE; OUTCOME_UNKNOWN.
        """
        try:
            await self._listings.confirm()
            prices = checked(request, self._listings.definitions, now)
            check_room(prices, {**self._writing, **self._gathered}, self._listings.definitions)
            async with asyncio.timeout(2 * DEADLINE):
                revision = await asyncio.shield(self._gather(prices, by))
        except Refused as refused:
            metrics.REFERENCES.labels(refused.refusal.slug).inc(len(request.prices))
            raise
        except TimeoutError as error:
            metrics.REFERENCES.labels(Refusal.OUTCOME_UNKNOWN.slug).inc(len(request.prices))
            raise Refused(Refusal.OUTCOME_UNKNOWN, "the prices are not known to be stored") from error
        metrics.REFERENCES.labels("taken").inc(len(request.prices))
        return ReferencesTaken(symbols=len(prices), revision=revision)

    def _gather(self, prices: Prices, by: str) -> "asyncio.Future[int]":
        """Add the prices to the next message, and return the future of the sequence at which they are stored."""
        for symbol, newer in prices.items():
            waiting = self._gathered.get(symbol)
            if waiting is None or newer.base != waiting.base or newer.time >= waiting.time:
                self._gathered[symbol] = newer
        self._askers.add(by)
        if self._stored is None:
            self._stored = asyncio.get_running_loop().create_future()
            self._stored.add_done_callback(_mark_retrieved)
        self._arrived.set()
        return self._stored

    async def run(self) -> None:
        """Write the gathered prices, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            began = loop.time()
            gathered, askers, stored = self._gathered, self._askers, self._stored
            self._gathered, self._askers, self._stored = {}, set(), None
            self._writing = gathered
            self._arrived.clear()
            try:
                revision = await self._write(gathered, ", ".join(sorted(filter(None, askers))))
            except Refused as refused:
                if stored is not None:
                    stored.set_exception(refused)
            else:
                if stored is not None:
                    stored.set_result(revision)
            self._writing = {}
            await asyncio.sleep(max(0.0, began + MIN_INTERVAL - loop.time()))

    async def _write(self, gathered: Prices, by: str) -> int:
        """Store the table with these prices, and return a sequence of the bucket that includes them.

        Raises:
            Refused: INVALID_FIELD: there is no room; UNAVAILABLE; OUTCOME_UNKNOWN.
        """
        try:
            async with asyncio.timeout(DEADLINE):
                while True:
                    await self._listings.confirm()
                    known = self._listings.definitions
                    value = updated_references(known, gathered)
                    if value is None:
                        return known.head
                    outcome = await journal.append(
                        self._connection,
                        STREAM,
                        subjects.bucket_key(subjects.INSTRUMENTS_BUCKET, REFERENCES),
                        value,
                        msg_id=secrets.token_hex(8),
                        compare=Compare(known.head),
                        headers={journal.ASKED_BY: by} if by else {},
                    )
                    if isinstance(outcome, Appended):
                        metrics.TABLES.inc()
                        return outcome.sequence
        except FieldError as error:
            raise Refused(Refusal.INVALID_FIELD, str(error), field=error.field) from error
        except TimeoutError as error:
            raise Refused(Refusal.OUTCOME_UNKNOWN, "the prices are not known to be stored") from error


def _mark_retrieved(future: "asyncio.Future[int]") -> None:
    """Mark the exception as retrieved, because there may be no waiter left."""
    if not future.cancelled():
        future.exception()
