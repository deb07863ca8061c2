"""The bucket `instruments`, followed: what is traded, and by which revision.

A definition that cannot be read is quarantined, and the one before it stands. Until the bucket is read, and while it
holds no terms, as before anything was ever defined, what a service was started with stands, by revision 0. After that,
what it was started with and nothing defines is delisted.

A request may name a revision that is newer than what is known here. Then `confirm` asks the broker how far the bucket
goes, and waits until it is known so far. Likewise for a symbol that is not known here: `knows` asks, but no more often
than every `LOOK_EVERY`, since anybody may name such symbols.
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
from jet.heads import head_of
from jet.tail import Message, Tail
from wire import subjects
from wire.definitions import TERMS, Definitions, Terms, differing_times
from wire.instruments import Listing

STREAM = subjects.bucket_stream(subjects.INSTRUMENTS_BUCKET)
KEYS = subjects.bucket_key(subjects.INSTRUMENTS_BUCKET, ">")
PART = "instruments"
TERMS_PART = "terms"

LOOK_EVERY = 0.25
"""Seconds between two questions because of symbols that are not known."""

_PREFIX = subjects.bucket_key(subjects.INSTRUMENTS_BUCKET, "")

log = structlog.get_logger()


class Counting(HealthPart, Protocol):
    """Where messages are counted, too, that cannot be used."""

    def quarantined(self, stream: str) -> None: ...


class Listings:
    """The listings, as far as they are known here.

    Attributes:
        definitions: the fold of the bucket.
        known: the listings, by symbol.
        current: all of it was read, and the broker heard of lately.
        differs: in what the terms differ from what this process was started with and cannot change; empty if in
            nothing. It should decide nothing then.
    """

    def __init__(
        self,
        connection: Connection,
        health: Counting,
        before: Mapping[str, Listing],
        relist: Callable[[Mapping[str, Listing]], None],
        *,
        name: str,
        follow: Follow = Tail,
        agreed: Terms | None = None,
    ) -> None:
        """Listings that begin with nothing.

        Args:
            connection: to the broker.
            health: has a part `instruments` for as long as they are not current.
            before: what stands until something is known to be defined; whoever makes this begins with it.
            relist: told of the listings that have changed since, and of none where only `current` has.
            name: of the follower.
            follow: what follows the bucket.
            agreed: the terms that this process was started with, to be compared.
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
        self._moves = asyncio.Condition()
        self._opened = asyncio.Event()
        self._head = head_of(connection, STREAM, self._reach)
        self._seldom = head_of(connection, STREAM, self._reach, every=LOOK_EVERY)
        health.waits(PART, "the instruments are not read yet")

    @property
    def is_open(self) -> bool:
        """Whether everything is known that was defined before this began."""
        return self._opened.is_set()

    async def opened(self) -> None:
        """Return once `is_open`."""
        await self._opened.wait()

    async def confirm(self) -> None:
        """Return once all is known that was defined when this was called.

        Raises:
            Refused: UNAVAILABLE: that cannot be known.
        """
        await self._head.confirm()

    async def knows(self, symbol: str) -> bool:
        """Whether a symbol is listed, by all that is defined when this is called. One that is known costs nothing.

        Raises:
            Refused: UNAVAILABLE: that cannot be known.
        """
        if symbol not in self.known:
            await self._seldom.confirm()
        return symbol in self.known

    async def run(self) -> None:
        """Follow until cancelled."""
        async for batch in self._tail.batches():
            symbols = {symbol for message in batch for symbol in self._fold(message)}
            if symbols or self.current != self._tail.current:
                self.current = self._tail.current
                self._relist(self._news(symbols))
            self._compare()
            if self.current:
                self._opened.set()
                self._health.fine(PART)
            else:
                self._health.waits(PART, "the instruments are not read to their end")
            async with self._moves:
                self._moves.notify_all()

    def _compare(self) -> None:
        """Notice terms that are others than those that this process works by."""
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
        """Fold a message. Returns the symbols that may be listed otherwise since."""
        why = fold(self.definitions, message)
        if why is not None:
            log.warning("no definition", subject=message.subject, seq=message.sequence, error=why)
            self._health.quarantined(STREAM)
        key = message.subject.removeprefix(_PREFIX)
        affected = self.definitions.affected(key)
        return {*self._before, *affected} if key == TERMS else affected

    def _news(self, symbols: Collection[str]) -> Mapping[str, Listing]:
        """What is listed otherwise, of these."""
        if self.definitions.terms is None:
            return {}
        news: dict[str, Listing] = {}
        for symbol in symbols:
            before = self._before.get(symbol)
            listing = self.definitions.listing(symbol) or (_delisted(before) if before is not None else None)
            if listing is not None and listing != self.known.get(symbol):
                news[symbol] = listing
        self.known.update(news)
        return news

    async def _reach(self, head: int) -> None:
        async with self._moves:
            await self._moves.wait_for(lambda: self._tail.reached >= head)


def fold(definitions: Definitions, message: Message) -> str | None:
    """Fold a message of the bucket. Returns why it is quarantined, None if it counts or was folded before."""
    if not journal.is_append(message.headers):
        definitions.skip_to(message.sequence)
        return "nobody of ours appended it"
    return definitions.apply(message.sequence, message.subject.removeprefix(_PREFIX), message.data)


def _delisted(listing: Listing) -> Listing:
    return dataclasses.replace(listing, instrument=replace(listing.instrument, state="delisted"))


def is_definition(message: Message) -> bool:
    """Whether a message of the bucket is a definition that counts."""
    key = message.subject.removeprefix(_PREFIX)
    return journal.is_append(message.headers) and Definitions().apply(message.sequence, key, message.data) is None
