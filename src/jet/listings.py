"""Follows the bucket `instruments`: what is traded, and at which revision.

A definition that cannot be read is quarantined, and the previous one stays valid. Until the bucket has been read, and
while it holds no terms because nothing was ever defined, the listings that the service was started with apply, at
revision 0. Afterwards, listings that it was started with but that are not defined are delisted.

A request may name a newer revision than the one known here. Then `confirm` asks the broker where the bucket ends, and
waits until everything up to there has been read. For a symbol that is not known here, `knows` does the same, but at
most once every `LOOK_UP_INTERVAL`, because anybody may name such symbols.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import structlog
from msgspec.structs import replace

from jet import journal
from jet.bootstrap import Bootstrap, Follow
from jet.connection import Connection, HealthPart
from jet.read_barrier import barrier_of
from jet.tail import Message, Tail
from wire import subjects
from wire.definitions import TERMS, Definitions, Terms, differing_times
from wire.instruments import Listing

STREAM = subjects.bucket_stream(subjects.INSTRUMENTS_BUCKET)
KEYS = subjects.bucket_key(subjects.INSTRUMENTS_BUCKET, ">")
PART = "instruments"
TERMS_PART = "terms"

LOOK_UP_INTERVAL = 0.25
"""The least time between two requests to the broker because of unknown symbols, in seconds."""

_PREFIX = subjects.bucket_key(subjects.INSTRUMENTS_BUCKET, "")

log = structlog.get_logger()


class QuarantineCounter(HealthPart, Protocol):
    """The process's health, which also counts messages that were quarantined."""

    def quarantined(self, stream: str) -> None: ...


class Listings:
    """The listings, as far as they are known here.

    Attributes:
        definitions: the fold of the bucket.
        known: the listings, by symbol.
        current: the end of the bucket was reached, and the broker has been heard from recently.
        differs: how the defined terms differ from those that this process was started with and cannot change; empty if
            they do not. A process whose terms differ must decide nothing.
    """

    def __init__(
        self,
        connection: Connection,
        health: QuarantineCounter,
        before: Mapping[str, Listing],
        relist: Callable[[Mapping[str, Listing]], None],
        *,
        name: str,
        follow: Follow = Tail,
        agreed: Terms | None = None,
    ) -> None:
        """Start with the listings `before`; `run` follows the bucket.

        Args:
            connection: to the broker.
            health: waits for the part `instruments` while the listings are not current.
            before: the listings that apply until a definition is read; the caller starts with them, too.
            relist: called with the listings that have changed, and with none if only `current` has.
            name: of the follower.
            follow: the kind of follower.
            agreed: the terms that this process was started with; compared with the defined ones.
        """
        self.differs = ""
        self._agreed = agreed
        self.definitions = Definitions()
        self.current = False
        self._health = health
        self._before = before
        self._relist = relist
        self.known = dict(before)
        self._tail = Bootstrap(connection, STREAM, [KEYS], is_definition, name=name, follow=follow)
        self._progress = asyncio.Condition()
        self._opened = asyncio.Event()
        self._barrier = barrier_of(connection, STREAM, self._wait_folded)
        self._rare_barrier = barrier_of(connection, STREAM, self._wait_folded, interval=LOOK_UP_INTERVAL)
        health.waits(PART, "the instruments are not read yet")

    @property
    def is_open(self) -> bool:
        """True if everything is known that was defined before this began."""
        return self._opened.is_set()

    async def opened(self) -> None:
        """Return once `is_open`."""
        await self._opened.wait()

    async def confirm(self) -> None:
        """Return once everything is known that was defined when this was called.

        Raises:
            Refused: UNAVAILABLE: the broker does not answer, or the bucket is not read in time.
        """
        await self._barrier.wait()

    async def knows(self, symbol: str) -> bool:
        """True if a symbol has a listing among everything that is defined when this is called.

        The broker is asked only for a symbol that is not known here.

        Raises:
            Refused: UNAVAILABLE: the broker does not answer, or the bucket is not read in time.
        """
        if symbol not in self.known:
            await self._rare_barrier.wait()
        return symbol in self.known

    async def run(self) -> None:
        """Follow until cancelled."""
        async for batch in self._tail.batches():
            symbols = {symbol for message in batch for symbol in self._fold(message)}
            if symbols or self.current != self._tail.current:
                self.current = self._tail.current
                self._relist(self._changed(symbols))
            self._compare()
            if self.current:
                self._opened.set()
                self._health.fine(PART)
            else:
                self._health.waits(PART, "the instruments are not read to their end")
            async with self._progress:
                self._progress.notify_all()

    def _compare(self) -> None:
        """Compare the defined terms with those that this process was started with."""
        terms = self.definitions.terms
        if terms is None or self._agreed is None:
            return
        before, self.differs = self.differs, "; ".join(differing_times(self._agreed, terms))
        if self.differs and self.differs != before:
            log.error("started with other terms than are defined", differs=self.differs)
        if self.differs:
            self._health.waits(TERMS_PART, f"started with other terms than are defined: {self.differs}")
        elif before:
            self._health.fine(TERMS_PART)

    def _fold(self, message: Message) -> Collection[str]:
        """Fold a message. Return the symbols whose listings it may have changed."""
        why = fold(self.definitions, message)
        if why is not None:
            log.warning("definition quarantined", subject=message.subject, seq=message.sequence, error=why)
            self._health.quarantined(STREAM)
        key = message.subject.removeprefix(_PREFIX)
        affected = self.definitions.affected(key)
        return {*self._before, *affected} if key == TERMS else affected

    def _changed(self, symbols: Collection[str]) -> Mapping[str, Listing]:
        """Return the listings that have changed, of these symbols."""
        if self.definitions.terms is None:
            return {}
        changed: dict[str, Listing] = {}
        for symbol in symbols:
            before = self._before.get(symbol)
            listing = self.definitions.listing(symbol) or (_delisted(before) if before is not None else None)
            if listing is not None and listing != self.known.get(symbol):
                changed[symbol] = listing
        self.known.update(changed)
        return changed

    async def _wait_folded(self, head: int) -> None:
        async with self._progress:
            await self._progress.wait_for(lambda: self._tail.reached >= head)


def fold(definitions: Definitions, message: Message) -> str | None:
    """Fold a message of the bucket. Return the reason if it is quarantined, None if it counts or was folded before."""
    if not journal.is_append(message.headers):
        definitions.skip_to(message.sequence)
        return "none of our writers appended it"
    return definitions.apply(message.sequence, message.subject.removeprefix(_PREFIX), message.data)


def _delisted(listing: Listing) -> Listing:
    return dataclasses.replace(listing, instrument=replace(listing.instrument, state="delisted"))


def is_definition(message: Message) -> bool:
    """True if a message of the bucket is a definition that counts."""
    key = message.subject.removeprefix(_PREFIX)
    return journal.is_append(message.headers) and Definitions().apply(message.sequence, key, message.data) is None
