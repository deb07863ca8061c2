"""Where the fold of a log begins: at the last message of each subject that can be used.

The last message of a subject says all that a fold needs, unless it is one that every reader quarantines: then the one
before it does, and so on. So whoever starts walks back, before it shows or decides anything.

Of fills, whether a message counts depends on those before it. The last one is believed if a ledger has published a
position after it. Or if it names the head that it was appended on, as everything does that is appended with a compare,
and goes on from the fills that are found back from there. Otherwise the subject is read back until two messages are
found that go on from each other, or to its beginning, and judged from there on.
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
"""Sequences read back at first; each time it was not enough, eight times as many."""

AT_ONCE = 64
"""Symbols looked at at the same time."""

STEPS = 16
"""Quote events at most between two messages of fills, before the subject is read back instead."""

PATIENCE = 3.0
"""Seconds for which the published positions are waited for: without them the log is asked about each symbol."""

ASK_AGAIN = 0.2
"""Seconds until the broker is asked again after it did not answer."""

_HEAD = "Nats-Expected-Last-Subject-Sequence"

Usable = Callable[[Message], bool]

Follow = type[Tail] | type[Reader]
"""How a stream is followed: by a consumer, or by asking, as who may make none does."""

_Symbols = TypeVar("_Symbols", QuoteActivated | QuoteWithdrawn, PositionUpdate)

_quote_events: msgspec.json.Decoder[QuoteEvent] = msgspec.json.Decoder(QuoteEvent)
_positions = msgspec.json.Decoder(PositionUpdate)

log = structlog.get_logger()


def is_quote_event(message: Message) -> bool:
    """Whether a message of the market log is a quote event of the symbol that its subject names."""
    return _is_of(_quote_events, message)


def is_position(message: Message) -> bool:
    """Whether a message of `POSITIONS` is a position of the symbol that its subject names."""
    return _is_of(_positions, message)


def _is_of(decoder: msgspec.json.Decoder[_Symbols], message: Message) -> bool:
    try:
        return decoder.decode(message.data).symbol == subjects.last_token(message.subject)
    except DECODE_ERRORS:
        return False


async def last_usable(
    connection: Connection, stream: str, subject: str, before: int, usable: Usable, follow: Follow = Tail
) -> Message | None:
    """The last message on a subject, before a sequence, that can be used; None if there is none.

    It waits for as long as the broker is away. `follow` is what reads.
    """
    async for messages, _ in _pieces(connection, stream, subject, before - 1, follow):
        found = [message for message in messages if usable(message)]
        if found:
            return found[-1]
    return None


class Bootstrap:
    """A tail that begins with what can be used of each subject, and goes on with every new message.

    The messages of a subject that follow the one it begins with are in it too, in stream order.

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
        """`skip_damaged`: begin without the last messages that the broker cannot read, as who looks for them does."""
        self._follow = follow
        self._connection = connection
        self._stream = stream
        self._usable = usable
        self._tail = follow(connection, stream, filters, LastPerSubject(), name=name, skip_damaged=skip_damaged)
        self._opened = False

    @property
    def current(self) -> bool:
        """The end of the stream was reached, and the broker heard of lately."""
        return self._opened and self._tail.current

    @property
    def damage(self) -> str:
        """What the broker does not give out, and where it says what to do; empty if nothing."""
        return self._tail.damage

    @property
    def sequence(self) -> int:
        """Stream sequence of the last message yielded, 0 before any."""
        return self._tail.sequence

    @property
    def reached(self) -> int:
        """Stream sequence up to which everything was yielded that matches and was still there."""
        return self._tail.reached if self._opened else 0

    async def batches(self) -> AsyncIterator[list[Message]]:
        """As `Tail.batches`; the first is the whole beginning.

        Raises:
            TailBroken: the stream lost what was yielded already.
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
        """What a fold begins with, and all that comes until the end of the stream is reached. It waits for as long as
        the broker is away, and follows no further."""
        found: list[Message] = []
        async with aclosing(self.batches()) as batches:  # type: ignore[type-var] # it is a generator
            async for batch in batches:
                found += batch
                if self.current:
                    break
        return found

    async def _walk_back(self, bootstrap: Iterable[Message]) -> list[Message]:
        """What comes before the messages that were the last of their subjects."""
        last: dict[str, Message] = {}
        for message in bootstrap:
            if subjects.is_name(subjects.last_token(message.subject)):  # of another nobody reads anything
                last.setdefault(message.subject, message)
        slots = asyncio.Semaphore(AT_ONCE)

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


class Published:
    """The newest published position of each symbol, as of when it was first asked for. What cannot be read is walked
    over."""

    def __init__(self, connection: Connection, *, name: str, follow: Follow = Tail) -> None:
        self._connection = connection
        self._name = name
        self._follow = follow
        self._reading = asyncio.Lock()
        self._found: dict[str, PositionUpdate] | None = None

    async def positions(self) -> dict[str, PositionUpdate]:
        """Read them, or what was read. It waits for as long as the broker is away."""
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
    """One shard's market log, of `shards`. What is published only makes it quicker, for who may read it."""

    def __init__(
        self,
        connection: Connection,
        shard: int,
        shards: int,
        published: Published | None = None,
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
        """Whether a fold may begin with this message of fills, whatever its number. With any other it begins at 1."""
        return self._begins.get(message.subject) == message.sequence

    async def _walk_back(self, bootstrap: Iterable[Message]) -> list[Message]:
        if self._published is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    self._positions = await self._published.positions()
        return await super()._walk_back(bootstrap)

    async def _before(self, last: Message) -> list[Message]:
        if not subjects.in_home_shard(last.subject, self._shards):
            return []
        if last.subject.startswith("quotes."):
            return await super()._before(last)
        if await self._goes_on(last):
            self._begins[last.subject] = last.sequence
            return []
        async for messages, is_all in _pieces(
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
        """The fills of a message that can be one commit, wherever the log stands; else none."""
        fills, fault = fill_validation.read(subject, payload, self._shards)
        if fault or fill_validation.judge(subjects.last_token(subject), fills, None):
            return []
        return fills

    def _last_counted(self, messages: list[Message], *, is_all: bool) -> Message | None:
        """The last message that counts; if these are not all, None unless two are found that go on from each other."""
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

    async def _goes_on(self, last: Message) -> bool:
        """Whether fills go on from those that they were appended after, as far as can be told at a glance."""
        if self._is_applied(last):
            return True
        fills = self._fills(last.subject, last.data)
        if not fills:
            return False
        headers = last.headers or {}
        for _ in range(STEPS):
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
        """Whether a position was published that ends with this message's last fill: a ledger has applied it whole."""
        position = self._positions.get(subjects.last_token(last.subject))
        if position is None:
            return False
        fills, fault = fill_validation.read_last(last.subject, last.data, self._shards)
        return fault is None and position.last_fill == fills[0].fill

    async def _until_answered(self, query: dict[str, int]) -> api.StoredMessage | None:
        """A message, or None if there is none; the broker is asked until it answers."""
        while True:
            try:
                return await api.get_message(self._connection, self._stream, query)
            except (api.ApiError, nats_errors.Error, TimeoutError) as error:
                log.debug("the broker does not return a message", stream=self._stream, error=repr(error))
                await asyncio.sleep(ASK_AGAIN)


async def _pieces(
    connection: Connection, stream: str, subject: str, last: int, follow: Follow
) -> AsyncIterator[tuple[list[Message], bool]]:
    """The messages on a subject up to a sequence, from further back each time, and whether these are all."""
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
    async with aclosing(tail.batches()) as batches:  # type: ignore[type-var] # it is a generator, though it does not say so
        async for batch in batches:
            found += [message for message in batch if message.sequence <= last]
            if tail.reached >= last or tail.current:
                break
    return found
