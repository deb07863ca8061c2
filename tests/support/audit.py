"""Market logs written by hand, which are valid unless a test makes them invalid, and checks that read them."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from audit.check import Check, verdicts
from audit.findings import Verdict
from audit.ledger_database import LedgerDatabase
from ledger.positions import Books, fold, read
from ledger.store import Store
from maker.proposal import propose
from recorded.replay import Listener, Place, Replay
from recorded.revisions import Revisions
from support.builders import NOW, instrument
from wire import ids, subjects
from wire.definitions import fair_share
from wire.instruments import Instrument, Listing
from wire.orders import RecordedFill
from wire.positions import Position
from wire.quotes import QuoteActivated, QuoteEvent, QuoteRequest, QuoteWithdrawn

SHARDS = 2
LIMIT = 100
SYMBOLS = {"AAA": instrument(), "XXX": instrument()}
"""Symbols in different shards."""


def listings(symbols: Mapping[str, Instrument] = SYMBOLS) -> dict[str, Listing]:
    """Return the listings of revision 0 with these settings."""
    return {symbol: Listing(of, fair_share(LIMIT, len(symbols))) for symbol, of in symbols.items()}


def defined(*values: tuple[datetime, str, msgspec.Struct], first: int = 1) -> Revisions:
    """Return definitions that were stored at these times, with sequences from `first` on."""
    revisions = Revisions()
    for sequence, (time, key, value) in enumerate(values, start=first):
        revisions.add(sequence, time, key, msgspec.json.encode(value))
    return revisions


LIFETIME = timedelta(seconds=30)


class Script:
    """A market log. Every call appends one message, a millisecond after the last one; a test may change `now`."""

    def __init__(self) -> None:
        self.now = NOW
        self.messages: list[tuple[Place, bytes]] = []
        self.latest: dict[str, QuoteActivated] = {}
        self.last_fill: dict[str, RecordedFill] = {}
        self.net: dict[str, int] = {}
        self._left: dict[str, tuple[int, int]] = {}
        self._sequences = [0] * SHARDS
        self._orders = 0

    @property
    def end(self) -> datetime:
        """A moment after the last message."""
        return self.now + timedelta(milliseconds=1)

    def number(self, symbol: str) -> int:
        """Return the number of a symbol's last fill."""
        return self.last_fill[symbol].number if symbol in self.last_fill else 0

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    def quote(self, symbol: str = "AAA", **changes: Any) -> QuoteActivated:
        """Append the quote that a maker would make, active now."""
        before = self.latest.get(symbol)
        version = changes.get("position_version", self.number(symbol))
        same = before is not None and before.position_version == version
        attempt = changes.get("attempt", before.attempt + 1 if before is not None and same else 1)
        share = fair_share(LIMIT, len(SYMBOLS))
        position = Position(symbol=symbol, net_quantity=self.net.get(symbol, 0), position_version=version)
        proposal = propose(Listing(SYMBOLS[symbol], share, changes.get("revision", 0)), position, attempt)
        assert proposal is not None
        quote: QuoteRequest = proposal.quote
        values = {name: getattr(quote, name) for name in quote.__struct_fields__}
        times = {"activated_at": self.now, "expires_at": self.now + LIFETIME}
        event = QuoteActivated(symbol=symbol, **(values | times | changes))
        self.latest[symbol] = event
        self._left[symbol] = (event.bid_quantity, event.ask_quantity)
        self.event(event)
        return event

    def withdraw(self, symbol: str = "AAA", **changes: Any) -> QuoteWithdrawn:
        """Append the withdrawal of the symbol's latest quote."""
        latest = self.latest[symbol]
        values = {
            name: getattr(latest, name)
            for name in ("symbol", "quote_id", "reservation_id", "position_version", "revision", "attempt")
        }
        event = QuoteWithdrawn(**(values | {"withdrawn_at": self.now} | changes))
        self._left[symbol] = (0, 0)
        self.event(event)
        return event

    def fill(self, symbol: str = "AAA", side: str = "buy", quantity: int = 1, **changes: Any) -> RecordedFill:
        """Return a fill as the exchange would make it, without appending it."""
        latest, number = self.latest[symbol], self.number(symbol) + 1
        bid, ask = self._left[symbol]
        bid, ask = (bid, ask - quantity) if side == "buy" else (bid - quantity, ask)
        self._orders += 1
        price = latest.ask_price if side == "buy" else latest.bid_price
        values: dict[str, Any] = {
            "fill_id": ids.fill_id(symbol, number),
            "order_id": f"order-{self._orders}",
            "symbol": symbol,
            "side": side,
            "quantity": quantity,
            "price": price,
            "quote_id": latest.quote_id,
            "created_at": self.now,
            "number": number,
            "remaining_bid_quantity": max(0, bid),
            "remaining_ask_quantity": max(0, ask),
            "order_quantity": quantity,
            "limit_price": price,
        }
        fill = RecordedFill(**(values | changes))
        self._left[symbol] = (fill.remaining_bid_quantity, fill.remaining_ask_quantity)
        self.last_fill[symbol] = fill
        self.net[symbol] = self.net.get(symbol, 0) + (quantity if side == "sell" else -quantity)
        return fill

    def trade(self, symbol: str = "AAA", side: str = "buy", quantity: int = 1, **changes: Any) -> RecordedFill:
        """Append a fill in its own message."""
        fill = self.fill(symbol, side, quantity, **changes)
        self.append(fill)
        return fill

    def report(self, symbol: str = "AAA", side: str = "buy", quantity: int = 1, **changes: Any) -> RecordedFill:
        """Append a fill that was executed elsewhere, by default on another quote, as the ledger records it."""
        values: dict[str, Any] = {"fill_id": f"elsewhere-{self._orders}", "origin": "reported"}
        if changes.get("quote_id") != self.latest[symbol].quote_id:
            bid, ask = self._left[symbol]
            values |= {"quote_id": "elsewhere", "remaining_bid_quantity": bid, "remaining_ask_quantity": ask}
        return self.trade(symbol, side, quantity, **(values | changes))

    def append(self, *fills: RecordedFill) -> Place:
        """Append one message of fills."""
        symbol = fills[0].symbol
        subject = subjects.fills(subjects.shard_of(symbol, SHARDS), symbol)
        return self.raw(subject, msgspec.json.encode(list(fills)))

    def event(self, event: QuoteEvent) -> Place:
        """Append one quote event."""
        subject = subjects.quotes(subjects.shard_of(event.symbol, SHARDS), event.symbol)
        return self.raw(subject, msgspec.json.encode(event))

    def raw(self, subject: str, payload: bytes) -> Place:
        """Append any payload on any subject of the market log."""
        shard = int(subject.split(".")[1])
        self._sequences[shard] += 1
        place = Place(shard, subjects.market_stream(shard), self._sequences[shard], subject, self.now)
        self.messages.append((place, payload))
        self.now += timedelta(milliseconds=1)
        return place

    def replay(self, *listeners: Listener) -> Replay:
        """Replay the whole log to these listeners."""
        replay = Replay(listeners, SHARDS)
        for place, payload in self.messages:
            replay.feed(place, payload)
        return replay

    def verdict(self, check: Check) -> Verdict:
        """Return the verdict of a check on this log."""
        return verdicts([check], self.replay(check), self.end)[0]

    async def ledger(self, path: Path, *, but_last: int = 0) -> LedgerDatabase:
        """Write the database of a ledger that has applied all but the last messages of fills."""
        async with Store(path) as store:
            fills = [(at, payload) for at, payload in self.messages if at.subject.startswith("fills.")]
            deliveries = [
                read(at.shard, SHARDS, at.subject, at.sequence, payload)
                for at, payload in fills[: len(fills) - but_last]
            ]
            await store.commit(fold(Books(), {}, deliveries), NOW)
        return LedgerDatabase(path)


def text_of(verdict: Verdict) -> str:
    """Return the text of all findings of a verdict."""
    return "\n".join(
        f"{finding.source} #{finding.sequence} {finding.subject} {finding.ids} {finding.detail}"
        for finding in verdict.findings
    )


def place_of(script: Script, index: int = -1) -> str:
    """Return the place of a message of the script, as findings name it."""
    at = script.messages[index][0]
    return f"{at.stream} #{at.sequence} {at.subject}"


def busy() -> Script:
    """Return a log of two symbols that are quoted and traded, with quotes that end in every possible way."""
    script = Script()
    script.quote("AAA")
    script.quote("XXX")
    for side in ("buy", "sell", "buy"):
        script.trade("AAA", side, 2)
    script.append(script.fill("XXX", "buy", 3), script.fill("XXX", "buy", 4), script.fill("XXX", "sell", 10))
    script.quote("AAA")
    script.trade("AAA", "sell", 10)
    script.trade("AAA", "buy", 10)
    script.quote("AAA")
    script.report("AAA", "buy", 7)
    script.withdraw("AAA")
    script.quote("XXX")
    script.wait(LIFETIME.total_seconds() + 1)
    script.quote("XXX")
    script.quote("AAA")
    return script
