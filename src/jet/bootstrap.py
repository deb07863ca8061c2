"""Where the fold of a log begins: at the last usable message of each subject.

The last message of a subject contains all that a fold needs, unless every reader quarantines it; then the message
before it does, and so on. So a reader that starts walks back to it before it shows or decides anything.

Whether a message of fills counts depends on the messages before it. The last one is believed if a ledger has published
a position after it. It is also believed if it names the head that it was appended on, as every message appended with a
compare does, and follows on from the fills found there. Otherwise the subject is read backwards until two messages are
found that follow on from each other, or to its beginning, and is judged from there.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing
from typing import TypeVar

import msgspec
import structlog
from nats import errors as nats_errors

from jet import api
from jet.connection import Connection
from jet.reader import Reader
from jet.tail import FromSequence, LastPerSubject, Message, Tail
from wire import fill_validation, subjects
from wire.fields import DECODE_ERRORS
from wire.orders import RecordedFill
from wire.positions import PositionUpdate
from wire.quotes import QuoteActivated, QuoteEvent, QuoteWithdrawn

FIRST_WALK = 1_000
"""How many sequences are read backwards at first; each further walk reads eight times as many."""

MAX_CONCURRENT = 64
"""The most symbols that are walked back at the same time."""

MAX_STEPS = 16
"""The most quote events between two messages of fills; if there are more, the subject is read backwards instead."""

POSITIONS_TIMEOUT = 3.0
"""Seconds to wait for the published positions; without them the log is asked about each symbol."""

RETRY_PAUSE = 0.2
"""Seconds until the next request after the broker did not answer."""

_HEAD = "Nats-Expected-Last-Subject-Sequence"

Usable = Callable[[Message], bool]

Follow = type[Tail] | type[Reader]
"""How a stream is followed: by a consumer, or by polling if the user may not create one."""

_Symbols = TypeVar("_Symbols", QuoteActivated | QuoteWithdrawn, PositionUpdate)

_quote_events: msgspec.json.Decoder[QuoteEvent] = msgspec.json.Decoder(QuoteEvent)
_positions = msgspec.json.Decoder(PositionUpdate)

log = structlog.get_logger()


def is_quote_event(message: Message) -> bool:
    """True if a message of the market log is a quote event of the symbol that its subject names."""
    return _decodes_to_own_symbol(_quote_events, message)


def is_position(message: Message) -> bool:
    """True if a message of `POSITIONS` is a position of the symbol that its subject names."""
    return _decodes_to_own_symbol(_positions, message)


def _decodes_to_own_symbol(decoder: msgspec.json.Decoder[_Symbols], message: Message) -> bool:
    try:
        return decoder.decode(message.data).symbol == subjects.last_token(message.subject)
    except DECODE_ERRORS:
        return False


async def last_usable(
    connection: Connection, stream: str, subject: str, before: int, usable: Usable, follow: Follow = Tail
) -> Message | None:
    """Return the last usable message on a subject before a sequence; None if there is none.

    Waits while the broker is away. `follow` is the kind of follower that reads.
    """
    async for messages, _ in _read_backwards(connection, stream, subject, before - 1, follow):
        found = [message for message in messages if usable(message)]
        if found:
            return found[-1]
    return None


class Bootstrap:
    """A follower that begins with the last usable message of each subject, and continues with every new message.

    If that is not the last message of its subject, the later ones are yielded, too. All are in stream order.

    Attributes:
        current: as a tail's, once the beginning was yielded.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        filters: list[str],
        usable: Usable,
        *,
        name: str,
        follow: Follow = Tail,
        skip_damaged: bool = False,
    ) -> None:
        """`skip_damaged`: begin without the last messages that the broker cannot read."""
        self._follow = follow
        self._connection = connection
        self._stream = stream
        self._usable = usable
        self._tail = follow(connection, stream, filters, LastPerSubject(), name=name, skip_damaged=skip_damaged)
        self._opened = False

    @property
    def current(self) -> bool:
        """True if the end of the stream was reached, and the broker has been heard from recently."""
        return self._opened and self._tail.current

    @property
    def damage(self) -> str:
        """What the broker does not deliver, and where to read how to repair it; empty if nothing."""
        return self._tail.damage

    @property
    def sequence(self) -> int:
        """The stream sequence of the last message yielded; 0 before any."""
        return self._tail.sequence

    @property
    def reached(self) -> int:
        """The stream sequence up to which every matching message that still existed was yielded."""
        return self._tail.reached if self._opened else 0

    async def batches(self) -> AsyncIterator[list[Message]]:
        """As `Tail.batches`; the first batch is the whole beginning.

        Raises:
            TailBroken: the stream lost messages that were already yielded.
        """
        bootstrap: list[Message] = []
        async for batch in self._tail.batches():
            if self._opened:
                yield batch
                continue
            bootstrap += batch
            if self._tail.current:
                earlier = await self._walk_back(bootstrap)
                self._opened = True
                yield sorted([*bootstrap, *earlier], key=lambda message: message.sequence)

    async def read_all(self) -> list[Message]:
        """Return the beginning and all further messages up to the end of the stream. Waits while the broker is away."""
        found: list[Message] = []
        async with aclosing(self.batches()) as batches:  # type: ignore[type-var] # it is a generator
            async for batch in batches:
                found += batch
                if self.current:
                    break
        return found

    async def _walk_back(self, bootstrap: Iterable[Message]) -> list[Message]:
        """Return the earlier messages that a fold needs because the last ones of their subjects are not usable."""
        last: dict[str, Message] = {}
        for message in bootstrap:
            if subjects.is_name(subjects.last_token(message.subject)):  # our readers ignore other subjects
                last.setdefault(message.subject, message)
        slots = asyncio.Semaphore(MAX_CONCURRENT)

        async def before(message: Message) -> list[Message]:
            async with slots:
                return await self._before(message)

        return [each for found in await asyncio.gather(*map(before, last.values())) for each in found]

    async def _before(self, last: Message) -> list[Message]:
        if self._usable(last):
            return []
        found = await last_usable(
            self._connection, self._stream, last.subject, last.sequence, self._usable, self._follow
        )
        log.warning(
            "last message of a subject cannot be used",
            subject=last.subject,
            sequence=last.sequence,
            before=found.sequence if found else None,
        )
        return [found] if found else []


class PublishedPositions:
    """The newest published position of each symbol at the time of the first request. Invalid messages are skipped."""

    def __init__(self, connection: Connection, *, name: str, follow: Follow = Tail) -> None:
        self._connection = connection
        self._name = name
        self._follow = follow
        self._reading = asyncio.Lock()
        self._found: dict[str, PositionUpdate] | None = None

    async def positions(self) -> dict[str, PositionUpdate]:
        """Return the positions by symbol; the first call reads them. Waits while the broker is away."""
        async with self._reading:
            if self._found is None:
                self._found = await self._read()
        return self._found

    async def _read(self) -> dict[str, PositionUpdate]:
        found: dict[str, PositionUpdate] = {}
        stream, filters = subjects.POSITIONS_STREAM, [subjects.POSITIONS]
        bootstrap = Bootstrap(self._connection, stream, filters, is_position, name=self._name, follow=self._follow)
        for message in filter(is_position, await bootstrap.read_all()):
            found[subjects.last_token(message.subject)] = _positions.decode(message.data)
        return found


class MarketBootstrap(Bootstrap):
    """The bootstrap of one shard of the market log.

    Published positions only make it faster, for users that may read them.
    """

    def __init__(
        self,
        connection: Connection,
        shard: int,
        shards: int,
        published: PublishedPositions | None = None,
        *,
        name: str,
        follow: Follow = Tail,
    ) -> None:
        filters = [subjects.quotes(shard, "*"), subjects.fills(shard, "*")]
        super().__init__(connection, subjects.market_stream(shard), filters, is_quote_event, name=name, follow=follow)
        self._shards = shards
        self._published = published
        self._positions: dict[str, PositionUpdate] = {}
        self._begins: dict[str, int] = {}

    def begins(self, message: Message) -> bool:
        """True if a fold may begin with this message of fills, whatever its number; otherwise it begins at number 1."""
        return self._begins.get(message.subject) == message.sequence

    async def _walk_back(self, bootstrap: Iterable[Message]) -> list[Message]:
        if self._published is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POSITIONS_TIMEOUT):
                    self._positions = await self._published.positions()
        return await super()._walk_back(bootstrap)

    async def _before(self, last: Message) -> list[Message]:
        if not subjects.in_home_shard(last.subject, self._shards):
            return []
        if last.subject.startswith("quotes."):
            return await super()._before(last)
        if await self._follows_on(last):
            self._begins[last.subject] = last.sequence
            return []
        async for messages, is_all in _read_backwards(
            self._connection, self._stream, last.subject, last.sequence, self._follow
        ):
            counted = self._last_counted(messages, is_all=is_all)
            if counted is not None:
                self._begins[last.subject] = counted.sequence
                if counted.sequence == last.sequence:
                    return []
                log.warning(
                    "last fills do not count", subject=last.subject, sequence=last.sequence, by=counted.sequence
                )
                return [counted]
        return []

    def _fills(self, subject: str, payload: bytes) -> list[RecordedFill]:
        """Return the fills of a message if they can be one commit, whatever the head of the log; else an empty list."""
        fills, fault = fill_validation.read(subject, payload, self._shards)
        if fault or fill_validation.judge(subjects.last_token(subject), fills, None):
            return []
        return fills

    def _last_counted(self, messages: list[Message], *, is_all: bool) -> Message | None:
        """Return the last message that counts, or None.

        If the messages are not all of the subject, two that follow on from each other are needed to know.
        """
        readable = [(message, fills) for message in messages if (fills := self._fills(message.subject, message.data))]
        number = 0
        if not is_all:
            pairs = itertools.pairwise(fills for _, fills in readable)
            first = next((one[0] for one, other in pairs if one[-1].number + 1 == other[0].number), None)
            if first is None:
                return None
            number = first.number - 1
        counted: Message | None = None
        for message, fills in readable:
            if fills[0].number == number + 1:
                number, counted = fills[-1].number, message
        return counted

    async def _follows_on(self, last: Message) -> bool:
        """True if the fills follow on from those that they were appended after.

        False also if that takes more than `MAX_STEPS` steps back to find out.
        """
        if self._is_applied(last):
            return True
        fills = self._fills(last.subject, last.data)
        if not fills:
            return False
        headers = last.headers or {}
        for _ in range(MAX_STEPS):
            head = headers.get(_HEAD, "")
            if not head.isdigit():
                return False
            if not int(head):
                return fills[0].number == 1
            found = await self._until_answered({"seq": int(head)})
            if found is None:
                return False
            if found.subject == last.subject:
                before = self._fills(found.subject, found.payload)
                return bool(before) and fills[0].number == before[-1].number + 1
            headers = found.headers
        return False

    def _is_applied(self, last: Message) -> bool:
        """True if a published position ends with the last fill of this message: a ledger has applied all of it."""
        position = self._positions.get(subjects.last_token(last.subject))
        if position is None:
            return False
        fills, fault = fill_validation.read_last(last.subject, last.data, self._shards)
        return fault is None and position.last_fill == fills[0].fill

    async def _until_answered(self, query: dict[str, int]) -> api.StoredMessage | None:
        """Return a stored message, or None if there is none. Asks until the broker answers."""
        while True:
            try:
                return await api.get_message(self._connection, self._stream, query)
            except (api.ApiError, nats_errors.Error, TimeoutError) as error:
                log.debug("the broker does not return a message", stream=self._stream, error=repr(error))
                await asyncio.sleep(RETRY_PAUSE)


async def _read_backwards(
    connection: Connection, stream: str, subject: str, last: int, follow: Follow
) -> AsyncIterator[tuple[list[Message], bool]]:
    """Yield the messages on a subject up to a sequence, from further back each time, and whether these are all."""
    back = FIRST_WALK
    while True:
        first = max(1, last - back)
        yield await _read(connection, stream, subject, first, last, follow), first == 1
        if first == 1:
            return
        back *= 8


async def _read(
    connection: Connection, stream: str, subject: str, first: int, last: int, follow: Follow
) -> list[Message]:
    found: list[Message] = []
    if last < first:
        return found
    tail = follow(connection, stream, [subject], FromSequence(first), name="walk-back")
    async with aclosing(tail.batches()) as batches:  # type: ignore[type-var] # it is a generator
        async for batch in batches:
            found += [message for message in batch if message.sequence <= last]
            if tail.reached >= last or tail.current:
                break
    return found
