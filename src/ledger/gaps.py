"""Fills that are quarantined for their numbers: is the gap in the log itself, and is the position stuck?

Ordering rules:
- Before a message is quarantined for a skipped number, the log is read from the last fill that counts: a consumer may
  have skipped messages that the log holds.
- A position is stuck once two messages in a row follow on each other's numbers, but both were quarantined for theirs:
  somebody numbers fills differently. The next fill that counts ends this.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import structlog

from jet import api
from jet.connection import Connection
from ledger.positions import Account, Books, Changes, Delivery
from wire import fill_validation, subjects
from wire.errors import Refused
from wire.fill_validation import Fault, Reason
from wire.orders import RecordedFill

RETRY_DELAY = 0.2
"""Seconds before a request that the broker did not answer is repeated."""

NUMBERING_FAULTS = (Reason.SKIPPED_NUMBER, Reason.REPEATED_NUMBER, Reason.CONTRADICTS)

log = structlog.get_logger()


class MissedFills(Exception):  # noqa: N818 # names what happened
    """The market log holds fills that were not delivered to this ledger: the fills after them are valid."""


@dataclass(slots=True)
class _Read:
    """How far a symbol's log was read: up to a sequence, and up to the number of the last fill that counts."""

    sequence: int
    number: int


class Gaps:
    """Reads the log where delivered fills skip a number."""

    def __init__(self, connection: Connection, shards: int) -> None:
        self._connection = connection
        self._shards = shards
        self._read: dict[str, _Read] = {}

    async def check(self, books: Books, deliveries: Iterable[Delivery], changes: Changes) -> None:
        """Check that the log itself skips every number for which `changes` quarantines one of the deliveries.

        Raises:
            MissedFills: the log holds the skipped fills.
        """
        for delivery, fault in changes.quarantined:
            if fault.reason is Reason.SKIPPED_NUMBER:
                account = books.accounts.get(delivery.symbol) or Account(delivery.symbol)
                expected = _number_before(account, deliveries, delivery)
                if await self._number_in_log(account, delivery) != expected:
                    raise MissedFills(
                        f"{delivery.symbol}: the log has fills after number {expected} that were not delivered before "
                        f"{delivery.sequence} of shard {delivery.shard}"
                    )

    async def _number_in_log(self, account: Account, beyond: Delivery) -> int:
        """Return the number of the last fill that counts in the log before a delivery."""
        read = self._read.get(account.symbol)
        if read is None or read.sequence < account.sequence:
            read = self._read[account.symbol] = _Read(account.sequence, account.version)
        subject = subjects.fills(beyond.shard, account.symbol)
        while True:
            query = {"seq": read.sequence + 1, "next_by_subj": subject}
            try:
                found = await api.read_message(self._connection, subjects.market_stream(beyond.shard), query)
            except Refused as refused:
                log.warning("cannot check for missed fills, retrying", symbol=account.symbol, reason=refused.detail)
                found = None
            if found is None:  # not even the delivery: the answer came from a deposed leader
                await asyncio.sleep(RETRY_DELAY)
                continue
            if found.seq >= beyond.sequence:
                return read.number
            read.sequence = found.seq
            fills, fault = fill_validation.read(subject, found.payload, self._shards)
            if fault is None and fill_validation.judge(account.symbol, fills, read.number) is None:
                read.number = fills[-1].number


def _number_before(account: Account, deliveries: Iterable[Delivery], beyond: Delivery) -> int:
    """Return the number of the last fill that counts and was delivered before a delivery."""
    number = account.version
    for delivery in deliveries:
        if delivery.symbol != account.symbol or delivery.fault or delivery.sequence <= account.sequence:
            continue
        if delivery.sequence >= beyond.sequence:
            break
        if fill_validation.judge(account.symbol, delivery.fills, number) is None:
            number = delivery.fills[-1].number
    return number


@dataclass(slots=True)
class StuckPositions:
    """The positions that are stuck.

    Attributes:
        reasons: why, by symbol, as text for people.
    """

    reasons: dict[str, str] = field(default_factory=dict)
    _quarantined: dict[str, int] = field(default_factory=dict)

    def update(self, accounts: Mapping[str, Account], quarantined: Iterable[tuple[Delivery, Fault]]) -> None:
        """Apply a batch's changes: the accounts that changed, and the quarantined deliveries in order."""
        for symbol in accounts:
            self.reasons.pop(symbol, None)
            self._quarantined.pop(symbol, None)
        for delivery, fault in quarantined:
            account = accounts.get(delivery.symbol)
            if fault.reason in NUMBERING_FAULTS and (account is None or delivery.sequence > account.sequence):
                self.add_quarantined(delivery.symbol, delivery.fills, str(fault))

    def add_quarantined(self, symbol: str, fills: list[RecordedFill], why: str) -> None:
        """Record that fills were quarantined for their numbers, and that no later fill has counted."""
        if self._quarantined.get(symbol) == fills[0].number - 1:
            self.reasons.setdefault(symbol, why)
        self._quarantined[symbol] = fills[-1].number

    def __str__(self) -> str:
        return "; ".join(
            f"the position of {symbol} is stuck: its fills are quarantined ({why})"
            for symbol, why in sorted(self.reasons.items())
        )
