"""Fills that are quarantined for their numbers: whether the log itself has the gap, and whose position stands still.

Ordering rules:
- Before a gap is quarantined for good, the log is read from the last fill that counts on: a consumer that skipped is
  not a log that skipped.
- A position stands still once two messages in a row go on from each other and were both quarantined for their numbers:
  somebody numbers fills in another way than everybody else counts them. It moves again with the next fill that counts.
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

ASK_AGAIN = 0.2
"""Seconds until the broker is asked again after it did not answer."""

OF_NUMBERS = (Reason.SKIPPED_NUMBER, Reason.REPEATED_NUMBER, Reason.CONTRADICTS)

log = structlog.get_logger()


class MissedFills(Exception):  # noqa: N818 # names what happened
    """The market log holds fills that were not delivered here: what follows them must not be quarantined."""


@dataclass(slots=True)
class _Read:
    """How far a symbol's log was read: up to a sequence, and the number of the last fill that counts there."""

    sequence: int
    number: int


class Gaps:
    """Reads the log where fills skip a number."""

    def __init__(self, connection: Connection, shards: int) -> None:
        self._connection = connection
        self._shards = shards
        self._read: dict[str, _Read] = {}

    async def check(self, books: Books, deliveries: Iterable[Delivery], changes: Changes) -> None:
        """Check that every number which the changes of some deliveries find skipped is skipped by the log.

        Raises:
            MissedFills: it is not.
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
        """The number of the last fill that counts in the log before a delivery."""
        read = self._read.get(account.symbol)
        if read is None or read.sequence < account.sequence:
            read = self._read[account.symbol] = _Read(account.sequence, account.version)
        subject = subjects.fills(beyond.shard, account.symbol)
        while True:
            query = {"seq": read.sequence + 1, "next_by_subj": subject}
            try:
                found = await api.read_message(self._connection, subjects.market_stream(beyond.shard), query)
            except Refused as refused:
                log.warning("cannot tell whether fills were missed", symbol=account.symbol, reason=refused.detail)
                found = None
            if found is None:  # not even the delivery: whoever answered leads no more
                await asyncio.sleep(ASK_AGAIN)
                continue
            if found.seq >= beyond.sequence:
                return read.number
            read.sequence = found.seq
            fills, fault = fill_validation.read(subject, found.payload, self._shards)
            if fault is None and fill_validation.judge(account.symbol, fills, read.number) is None:
                read.number = fills[-1].number


def _number_before(account: Account, deliveries: Iterable[Delivery], beyond: Delivery) -> int:
    """The number of the last fill that counts among what was delivered before a delivery."""
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
    """Whose position stands still, and why.

    Attributes:
        why: by symbol, for a person.
    """

    why: dict[str, str] = field(default_factory=dict)
    _quarantined: dict[str, int] = field(default_factory=dict)

    def take(self, accounts: Mapping[str, Account], quarantined: Iterable[tuple[Delivery, Fault]]) -> None:
        """Take what a batch changed: the accounts that moved, and what was quarantined, in order."""
        for symbol in accounts:
            self.why.pop(symbol, None)
            self._quarantined.pop(symbol, None)
        for delivery, fault in quarantined:
            account = accounts.get(delivery.symbol)
            if fault.reason in OF_NUMBERS and (account is None or delivery.sequence > account.sequence):
                self.quarantined(delivery.symbol, delivery.fills, str(fault))

    def quarantined(self, symbol: str, fills: list[RecordedFill], why: str) -> None:
        """Fills were quarantined for their numbers, and none has counted since."""
        if self._quarantined.get(symbol) == fills[0].number - 1:
            self.why.setdefault(symbol, why)
        self._quarantined[symbol] = fills[-1].number

    def __str__(self) -> str:
        return "; ".join(
            f"{symbol} does not move: its fills are quarantined ({why})" for symbol, why in sorted(self.why.items())
        )
