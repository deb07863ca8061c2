"""Folds fills into positions: all of the ledger's arithmetic. Pure.

A message of the market log is one decision of one writer, so it is applied whole or quarantined whole. Which fills
count is the same for every reader of the log (`wire.fill_validation`), and depends only on the symbol's own messages:
the order between shards differs from ledger to ledger, and all must compute the same position.

Two kinds of messages that do not count are treated specially. If all fills of a message are recorded already, with the
same content and number, it is ignored as a duplicate. If one of them is recorded with other content, the message is
quarantined as a contradiction.

A quarantined message is stored, and advances the applied sequence like any other: it never blocks.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from ledger.money import FLAT, Money, apply_fills, average_price
from wire import fill_validation, subjects
from wire.fill_validation import Fault, Reason
from wire.orders import NumberedFill, RecordedFill
from wire.positions import PositionUpdate
from wire.units import ONE, shown_money

Verdict = Literal["apply", "ignore"] | Fault


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message of the market log: its fills, and the fault that is visible in the message itself, if any."""

    shard: int
    sequence: int
    symbol: str
    payload: bytes
    fills: list[RecordedFill]
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """A symbol's committed position, and the fill that led to it.

    Attributes:
        net_quantity: the makers' inventory in lots; a `buy` fill lowers it.
        last_fill: the last applied fill; None before the first.
        sequence: the stream sequence of the message with that fill; 0 before the first.
        money: its cash, cost, fees and volume.
    """

    symbol: str
    net_quantity: int = 0
    last_fill: RecordedFill | None = None
    sequence: int = 0
    money: Money = FLAT

    @property
    def version(self) -> int:
        """The position version: the number of the last fill applied."""
        return self.last_fill.number if self.last_fill else 0

    @property
    def update(self) -> PositionUpdate:
        """The position as it is published. For the same version, every ledger publishes the identical update."""
        last = self.last_fill
        fields = position_fields(self.symbol, self.net_quantity, last, self.money)
        return PositionUpdate(**fields, last_fill=last.fill if last is not None else None)


def position_fields(symbol: str, net: int, last: RecordedFill | NumberedFill | None, money: Money) -> dict[str, Any]:
    """Return the fields of a `Position` after its last fill, or of a position without fills if `last` is None."""
    fields: dict[str, Any] = {"symbol": symbol, "net_quantity": net, "position_version": 0}
    if last is not None:
        fields |= {"position_version": last.number, "last_fill_id": last.fill_id, "updated_at": last.created_at}
    multiplier = last.multiplier if last is not None else ONE
    average = average_price(net, money.open_cost, multiplier)
    return fields | {
        "cash": shown_money(money.cash),
        "average_price": None if average is None else shown_money(average),
        "realized": shown_money(money.realized),
        "fees": shown_money(money.fees),
        "volume": money.volume,
        "multiplier": shown_money(multiplier),
    }


@dataclass(slots=True)
class Books:
    """The committed state: accounts by symbol, and the applied stream sequence of each shard."""

    accounts: dict[str, Account] = field(default_factory=dict)
    applied: dict[int, int] = field(default_factory=dict)

    def take(self, changes: "Changes") -> None:
        """Apply changes that have been committed."""
        self.accounts.update(changes.accounts)
        self.applied.update(changes.applied)


class FillKey(NamedTuple):
    """The key of a fill. Fill ids are compared within their symbol, because the order between shards is arbitrary."""

    symbol: str
    fill_id: str


@dataclass(slots=True)
class Changes:
    """The changes that a batch of deliveries makes to the books, to be committed together.

    Attributes:
        fills: each new fill with its delivery, in the order in which they are applied.
        accounts: the new state of each account that changes.
        quarantined: each quarantined delivery with its fault.
        applied: the new applied sequence of each shard that advances.
        duplicates: the number of fills that were recorded already.
    """

    fills: list[tuple[RecordedFill, Delivery]] = field(default_factory=list)
    accounts: dict[str, Account] = field(default_factory=dict)
    quarantined: list[tuple[Delivery, Fault]] = field(default_factory=list)
    applied: dict[int, int] = field(default_factory=dict)
    duplicates: int = 0


def read(shard: int, shards: int, subject: str, sequence: int, payload: bytes) -> Delivery:
    """Decode one message of shard `shard` of `shards`. If it cannot be decoded, the delivery has a fault."""
    fills, fault = fill_validation.read(subject, payload, shards)
    return Delivery(shard, sequence, subjects.last_token(subject), payload, fills, fault)


def fold(books: Books, recorded: Mapping[FillKey, RecordedFill], deliveries: Iterable[Delivery]) -> Changes:
    """Return the changes that deliveries make to the books.

    Splitting the deliveries into other batches, or delivering some again, leads to the same books.

    Args:
        books: the committed state.
        recorded: the fills of these deliveries that are recorded already.
        deliveries: in stream order within each shard.
    """
    changes = Changes()
    known = dict(recorded)
    for delivery in deliveries:
        shard, sequence, symbol = delivery.shard, delivery.sequence, delivery.symbol
        if sequence <= changes.applied.get(shard, books.applied.get(shard, 0)):
            continue
        changes.applied[shard] = sequence
        account = changes.accounts.get(symbol) or books.accounts.get(symbol) or Account(symbol)
        verdict = delivery.fault or _judge(account, delivery.fills, known)
        if isinstance(verdict, Fault):
            changes.quarantined.append((delivery, verdict))
        elif verdict == "ignore":
            changes.duplicates += len(delivery.fills)
        else:
            for fill in delivery.fills:
                known[FillKey(symbol, fill.fill_id)] = fill
                changes.fills.append((fill, delivery))
            net, money = apply_fills(account.net_quantity, account.money, delivery.fills)
            changes.accounts[symbol] = Account(symbol, net, delivery.fills[-1], sequence, money)
    return changes


def _judge(account: Account, fills: list[RecordedFill], known: Mapping[FillKey, RecordedFill]) -> Verdict:
    fault = fill_validation.judge(account.symbol, fills, account.version)
    if fault is None:
        return "apply"
    if fault.reason in (Reason.REPEATED_NUMBER, Reason.SKIPPED_NUMBER):
        recorded = [known.get(FillKey(fill.symbol, fill.fill_id)) for fill in fills]
        for fill, earlier in zip(fills, recorded, strict=True):
            if earlier is not None and (earlier.number, earlier.fill) != (fill.number, fill.fill):
                return Fault(Reason.CONTRADICTS, f"{fill.fill_id} is recorded with other content")
        if None not in recorded and len({fill.fill_id for fill in fills}) == len(fills):
            return "ignore"
    return fault
