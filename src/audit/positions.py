"""I8 and I9: positions, in ledgers' tables and as published, compared with the fold of the log's fills.

`POSITIONS` keeps the last thousand updates of each symbol. They are read first, and each is compared when the replay
reaches its version.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from audit.check import Check
from audit.findings import Findings, Verdict
from audit.ledger_database import LedgerDatabase
from jet.connection import Connection
from recorded import streams
from recorded.replay import Book, Fault, Place, Replay
from wire import subjects
from wire.orders import RecordedFill
from wire.positions import PositionUpdate


async def read_publications(connection: Connection) -> "Publications":
    """Read the stream `POSITIONS`.

    Raises:
        CannotRead: it does not exist, or the broker does not answer.
    """
    found = Publications()
    decoder = msgspec.json.Decoder(PositionUpdate)
    last = await streams.last_sequence(connection, subjects.POSITIONS_STREAM)
    async for message in streams.messages(connection, subjects.POSITIONS_STREAM, last):
        try:
            found.add(message.subject, message.sequence, message.time, decoder.decode(message.data))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            found.unreadable.append((message.sequence, message.subject, f"cannot be read: {error}"))
    return found


class Reported(NamedTuple):
    """The money in an update of `POSITIONS`."""

    cash: Decimal | None
    average_price: Decimal | None
    realized: Decimal | None
    fees: Decimal | None
    volume: int | None
    multiplier: Decimal | None

    @classmethod
    def of(cls, update: PositionUpdate) -> "Reported":
        """Return the money of an update."""
        return cls(*(getattr(update, name) for name in cls._fields))


_UNREPORTED = Reported(None, None, None, None, None, None)


class Published(NamedTuple):
    """The parts of an update of `POSITIONS` that are compared later.

    `content` is a hash of everything but the money. `reported` is None if the update has no money.
    """

    sequence: int
    time: datetime
    version: int
    net: int
    content: int
    reported: Reported | None


class Publications:
    """The content of `POSITIONS`.

    Attributes:
        by_symbol: the updates of each symbol, in stream order.
        count: the number of updates.
        unreadable: (sequence, subject, reason) of each invalid message.
    """

    def __init__(self) -> None:
        self.by_symbol: dict[str, list[Published]] = {}
        self.count = 0
        self.unreadable: list[tuple[int, str, str]] = []

    def add(self, subject: str, sequence: int, time: datetime, update: PositionUpdate) -> None:
        """Add the next update."""
        symbol = subjects.last_token(subject)
        if update.symbol != symbol:
            self.unreadable.append((sequence, subject, f"is an update of {update.symbol}"))
            return
        self.count += 1
        reported = Reported.of(update)
        content = hash(replace(update, **_UNREPORTED._asdict()))
        money = None if reported == _UNREPORTED else reported
        published = Published(sequence, time, update.position_version, update.net_quantity, content, money)
        self.by_symbol.setdefault(symbol, []).append(published)

    def by_version(self) -> dict[str, deque[Published]]:
        """Return the updates after at least one fill, by symbol, in the order of their versions."""
        return {symbol: _by_version(updates) for symbol, updates in self.by_symbol.items()}


class SignedSum(Check):
    """I8."""

    code = "I8"
    statement = (
        "A position is the signed sum of its recorded fills and its version the number of the last one: it never goes "
        "back, skips nothing, and is the same wherever it is shown."
    )

    def __init__(self, publications: Publications, ledgers: Sequence[LedgerDatabase]) -> None:
        super().__init__()
        self._publications = publications
        self._tables = [_Table(ledger, self.found) for ledger in ledgers]
        self._expected = publications.by_version()
        self._agreed = 0

    def fills(self, at: Place, fills: Sequence[RecordedFill], book: Book) -> None:
        expected = self._expected.get(book.symbol)
        net = book.net
        for fill in fills:
            net += fill.quantity if fill.side == "sell" else -fill.quantity
            while expected and expected[0].version <= fill.number:
                self._compare(book.symbol, expected.popleft(), net, fill)
        for table in self._tables:
            table.compare(at, fills, net)

    def quarantined(self, at: Place, fills: Sequence[RecordedFill], fault: Fault) -> None:
        if fault.kind in ("repeated", "skipped", "contradicts"):
            self.found.at(at, f"{fills[0].fill_id} {fault.detail}", fill_id=fills[0].fill_id)

    def finish(self, replay: Replay) -> Verdict:
        for symbol, updates in self._publications.by_symbol.items():
            for update in updates:
                if not update.version and update.net:
                    add_finding(self.found, symbol, update, f"is published as {update.net}, before any fill")
        checked = [
            f"{replay.fill_count:,} fills of {len(replay.books):,} symbols, {self._agreed:,} published positions"
        ]
        for table in self._tables:
            table.finish()
            checked.append(f"{len(table.ledger.positions):,} positions in {table.ledger.name}")
        return self.verdict(
            ", ".join(checked),
            "" if self._tables else "no table of positions is checked: there is no ledger database",
        )

    def _compare(self, symbol: str, update: Published, net: int, fill: RecordedFill) -> None:
        expected = PositionUpdate(
            symbol=symbol,
            net_quantity=net,
            position_version=fill.number,
            last_fill_id=fill.fill_id,
            updated_at=fill.created_at,
            last_fill=fill.fill,
        )
        if update.net != net:
            add_finding(self.found, symbol, update, f"is published as {update.net}, its fills sum to {net}")
        elif update.content != hash(expected):
            add_finding(
                self.found, symbol, update, f"is published with another last fill than {fill.fill_id} as logged"
            )
        else:
            self._agreed += 1


class _Table:
    """One ledger's table of positions."""

    def __init__(self, ledger: LedgerDatabase, found: Findings) -> None:
        self.ledger = ledger
        self._found = found
        self._applied: dict[str, tuple[int, int]] = {}  # by symbol: the version and net quantity that it should have

    def compare(self, at: Place, fills: Sequence[RecordedFill], net: int) -> None:
        """Note the net quantity after these fills. If the table is at one of them, compare its last fill."""
        if at.sequence > self.ledger.applied.get(at.shard, 0):
            return
        symbol, first, last = fills[0].symbol, fills[0].number, fills[-1].number
        self._applied[symbol] = (last, net)
        held = self.ledger.positions.get(symbol)
        if held is None or not first <= held.position_version <= last:
            return
        fill = fills[held.position_version - first]
        if (held.last_fill_id, held.updated_at) != (fill.fill_id, fill.created_at):
            has = f"{held.last_fill_id} of {held.updated_at.isoformat()}"
            self._add_finding(
                symbol, f"has {has} as its last fill, the log {fill.fill_id} of {fill.created_at.isoformat()}"
            )

    def finish(self) -> None:
        """Compare the positions with those of the log, and with the table's own fills."""
        sums = self.ledger.sums()
        for symbol in sorted({*self._applied, *self.ledger.positions, *sums}):
            version, net = self._applied.get(symbol, (0, 0))
            held = self.ledger.positions.get(symbol)
            if held is None:
                self._add_finding(
                    symbol, f"is missing; the applied part of the log leads to {net} at version {version}"
                )
                continue
            has = f"{held.net_quantity} at version {held.position_version}"
            if (held.net_quantity, held.position_version) != (net, version):
                self._add_finding(symbol, f"is {has}; the applied part of the log leads to {net} at version {version}")
            own = sums.get(symbol)
            if own is None or (own.net_quantity, own.highest) != (held.net_quantity, held.position_version):
                leads = f"{own.net_quantity} at version {own.highest}" if own else "nothing"
                self._add_finding(symbol, f"is {has}; its own table of fills leads to {leads}")

    def _add_finding(self, symbol: str, detail: str) -> None:
        self._found.elsewhere(self.ledger.name, f"the position of {symbol} {detail}", ids={"symbol": symbol})


class AfterItsFills(Check):
    """I9."""

    code = "I9"
    statement = "A position is published only after its fills are stored, in version order per symbol."

    def __init__(self, publications: Publications) -> None:
        super().__init__()
        self._publications = publications
        self._expected = publications.by_version()

    def fills(self, at: Place, fills: Sequence[RecordedFill], book: Book) -> None:
        expected = self._expected.get(book.symbol)
        while expected and expected[0].version <= fills[-1].number:
            update = expected.popleft()
            if update.time < at.time:
                early = (at.time - update.time).total_seconds()
                detail = f"is published {early:g} s before its fill is stored, as {at.stream} #{at.sequence}"
                add_finding(self.found, book.symbol, update, detail)

    def finish(self, replay: Replay) -> Verdict:
        for symbol, left in self._expected.items():
            number = replay.books[symbol].number if symbol in replay.books else 0
            for update in left:
                add_finding(self.found, symbol, update, f"is published, but the log has {number} fills of {symbol}")
        for symbol, updates in self._publications.by_symbol.items():
            latest = -1
            for update in updates:
                if update.version <= latest:
                    add_finding(self.found, symbol, update, f"is published after position {latest}")
                latest = max(latest, update.version)
        for sequence, subject, why in self._publications.unreadable:
            stream = subjects.POSITIONS_STREAM
            self.found.elsewhere(stream, f"the message {why}", sequence=sequence, subject=subject)
        kept = f"{self._publications.count:,} published positions, all that POSITIONS keeps"
        return self.verdict(kept)


def _by_version(updates: Iterable[Published]) -> deque[Published]:
    return deque(sorted((update for update in updates if update.version), key=attrgetter("version")))


def add_finding(found: Findings, symbol: str, update: Published, detail: str) -> None:
    """Add a contradiction in a published position."""
    found.elsewhere(
        subjects.POSITIONS_STREAM,
        f"position {update.version} of {symbol} {detail}",
        sequence=update.sequence,
        subject=subjects.position(symbol),
        ids={"symbol": symbol, "position_version": str(update.version)},
    )
