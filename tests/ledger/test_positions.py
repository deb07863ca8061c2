"""Which fills count, and the positions that result."""

from collections import defaultdict
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.money import Money
from ledger.positions import Account, Books, Changes, Delivery, FillKey, Reason, fold, read
from support.builders import NOW, recorded_fill
from wire import subjects
from wire.orders import RecordedFill
from wire.positions import PositionUpdate

SHARDS = 2
SHARD = subjects.shard_of("AAA", SHARDS)
OTHER = "DDD"
"""A symbol of the other shard."""


def message(sequence: int, *fills: RecordedFill, symbol: str = "AAA") -> Delivery:
    shard = subjects.shard_of(symbol, SHARDS)
    return read(shard, SHARDS, subjects.fills(shard, symbol), sequence, msgspec.json.encode(list(fills)))


def committed(*deliveries: Delivery) -> tuple[Books, dict[FillKey, RecordedFill]]:
    """Return the books and the recorded fills after some deliveries."""
    books = Books()
    changes = fold(books, {}, deliveries)
    books.take(changes)
    return books, {FillKey(fill.symbol, fill.fill_id): fill for fill, _ in changes.fills}


def reasons(changes: Changes) -> list[Reason]:
    return [fault.reason for _, fault in changes.quarantined]


def test_a_buy_lowers_the_position_and_a_sell_raises_it() -> None:
    first = recorded_fill(number=1, side="buy", quantity=5)
    second = recorded_fill(number=2, side="sell", quantity=7)
    books, _ = committed(message(1, first), message(4, second))
    money = Money(Decimal("-200.20"), Decimal("200.20"), Decimal(0), 12)
    assert books.accounts == {"AAA": Account("AAA", 2, second, 4, money)}
    assert books.applied == {SHARD: 4}


def test_the_update_names_the_last_fill_and_its_time() -> None:
    last = recorded_fill(number=2, side="sell", quantity=3)
    books, _ = committed(message(1, recorded_fill(number=1), last))
    assert books.accounts["AAA"].update == PositionUpdate(
        symbol="AAA",
        net_quantity=2,
        position_version=2,
        last_fill_id="AAA-f2",
        updated_at=NOW,
        last_fill=last.fill,
        cash=Decimal("-200.2"),
        average_price=Decimal("100.1"),
        realized=Decimal(0),
        fees=Decimal(0),
        volume=4,
        multiplier=Decimal(1),
    )


def test_an_account_without_fills_is_flat_at_version_zero() -> None:
    assert Account("AAA").update == PositionUpdate(
        symbol="AAA",
        net_quantity=0,
        position_version=0,
        cash=Decimal(0),
        realized=Decimal(0),
        fees=Decimal(0),
        volume=0,
        multiplier=Decimal(1),
    )


def test_the_same_fill_in_another_message_is_ignored() -> None:
    books, recorded = committed(message(1, recorded_fill(number=1)))
    changes = fold(books, recorded, [message(2, recorded_fill(number=1, price=Decimal("100.1")))])
    assert (changes.fills, changes.accounts, changes.quarantined) == ([], {}, [])
    assert changes.duplicates == 1
    assert changes.applied == {SHARD: 2}


def test_a_message_at_or_below_the_applied_sequence_is_skipped() -> None:
    books, recorded = committed(message(7, recorded_fill(number=1)))
    changes = fold(books, recorded, [message(6, recorded_fill(number=9)), message(7, recorded_fill(number=9))])
    assert changes == Changes()


def test_a_duplicate_within_one_batch_is_found() -> None:
    changes = fold(Books(), {}, [message(1, recorded_fill(number=1)), message(2, recorded_fill(number=1))])
    assert len(changes.fills) == changes.duplicates == 1


@pytest.mark.parametrize(
    ("fills", "reason"),
    [
        ([recorded_fill(number=2, quantity=3)], Reason.CONTRADICTS),
        ([recorded_fill(number=2, side="sell")], Reason.CONTRADICTS),
        ([recorded_fill(number=3, fill_id="AAA-f2")], Reason.CONTRADICTS),
        ([recorded_fill(number=3), recorded_fill(number=4, fill_id="AAA-f3")], Reason.CONTRADICTS),
        ([recorded_fill(number=2, fill_id="other")], Reason.REPEATED_NUMBER),
        ([recorded_fill(number=2), recorded_fill(number=3)], Reason.REPEATED_NUMBER),
        ([recorded_fill(number=4)], Reason.SKIPPED_NUMBER),
        ([recorded_fill(number=3), recorded_fill(number=5)], Reason.SKIPPED_NUMBER),
        ([recorded_fill(number=3), recorded_fill(number=3, fill_id="other")], Reason.SKIPPED_NUMBER),
        ([], Reason.UNREADABLE),
        ([recorded_fill("BBB", 3)], Reason.MISPLACED),
    ],
)
def test_a_message_that_does_not_follow_is_quarantined_as_a_whole(fills: list[RecordedFill], reason: Reason) -> None:
    books, recorded = committed(message(1, recorded_fill(number=1), recorded_fill(number=2)))
    changes = fold(books, recorded, [message(2, *fills), message(3, recorded_fill(number=3))])
    assert reasons(changes) == [reason]
    assert [fill.number for fill, _ in changes.fills] == [3], "the next good message is applied"
    assert changes.applied == {SHARD: 3}


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xfe",
        b"{}",
        b"[1]",
        b"[" * 100_000,
        msgspec.json.encode([{**msgspec.to_builtins(recorded_fill()), "surprise": 1}]),
        msgspec.json.encode([recorded_fill()]).replace(b'"100.10"', b'"-100.10"'),
        msgspec.json.encode(recorded_fill()),
    ],
)
def test_an_undecodable_message_becomes_a_delivery_with_a_fault(payload: bytes) -> None:
    delivery = read(SHARD, SHARDS, subjects.fills(SHARD, "AAA"), 1, payload)
    assert delivery.fault is not None
    assert delivery.fault.reason is Reason.UNREADABLE
    assert delivery.payload == payload


def test_fills_in_a_shard_that_is_not_their_symbols_are_misplaced() -> None:
    other = 1 - SHARD
    delivery = read(other, SHARDS, subjects.fills(other, "AAA"), 1, msgspec.json.encode([recorded_fill()]))
    assert delivery.fault is not None
    assert delivery.fault.reason is Reason.MISPLACED


def test_the_same_id_on_two_symbols_is_two_fills_whichever_shard_comes_first() -> None:
    one = message(1, recorded_fill("AAA", fill_id="x-1", origin="reported"))
    other = message(1, recorded_fill(OTHER, fill_id="x-1", quantity=2, origin="reported"), symbol=OTHER)
    assert committed(one, other) == committed(other, one)
    assert set(committed(one, other)[0].accounts) == {"AAA", OTHER}


# --- properties ---------------------------------------------------------------------------------------------------


@st.composite
def logs(draw: st.DrawFn) -> list[Delivery]:
    """Generate a mostly valid market log with some repeated, skipped, contradictory and unreadable messages."""
    deliveries: list[Delivery] = []
    sequence: dict[int, int] = defaultdict(int)
    number: dict[str, int] = defaultdict(int)
    for _ in range(draw(st.integers(0, 25))):
        symbol = draw(st.sampled_from(["AAA", "BBB", OTHER]))
        shard = subjects.shard_of(symbol, SHARDS)
        sequence[shard] += draw(st.integers(1, 3))
        start = max(1, number[symbol] + 1 + draw(st.sampled_from([0, 0, 0, 0, -2, -1, 1])))
        fills = [
            recorded_fill(
                symbol,
                start + offset,
                side="buy" if (start + offset) % 3 else "sell",
                quantity=draw(st.sampled_from([1, 1, 1, 2])),
            )
            for offset in range(draw(st.integers(1, 4)))
        ]
        if start == number[symbol] + 1:
            number[symbol] += len(fills)
        payload = msgspec.json.encode(fills) if draw(st.integers(0, 9)) else b"?"
        if payload == b"?" and start == number[symbol] - len(fills) + 1:
            number[symbol] -= len(fills)
        deliveries.append(read(shard, SHARDS, subjects.fills(shard, symbol), sequence[shard], payload))
    return deliveries


class Ledger:
    """Commits batches as the store would."""

    def __init__(self) -> None:
        self.books = Books()
        self.fills: dict[FillKey, RecordedFill] = {}
        self.quarantined: list[tuple[int, int]] = []

    def deliver(self, deliveries: list[Delivery]) -> None:
        keys = {FillKey(fill.symbol, fill.fill_id) for delivery in deliveries for fill in delivery.fills}
        recorded = {key: fill for key, fill in self.fills.items() if key in keys}
        changes = fold(self.books, recorded, deliveries)
        for fill, _ in changes.fills:
            key = FillKey(fill.symbol, fill.fill_id)
            assert key not in self.fills, "a fill is recorded once"
            self.fills[key] = fill
        self.quarantined += [(delivery.shard, delivery.sequence) for delivery, _ in changes.quarantined]
        self.books.take(changes)


@given(logs(), st.data())
def test_batching_and_redelivery_change_nothing(log: list[Delivery], data: st.DataObject) -> None:
    whole, pieces = Ledger(), Ledger()
    whole.deliver(log)
    at = 0
    while at < len(log):
        end = data.draw(st.integers(at + 1, len(log)))
        pieces.deliver(log[data.draw(st.integers(0, at)) : end])
        at = end
    assert (pieces.books, pieces.fills, pieces.quarantined) == (whole.books, whole.fills, whole.quarantined)


@given(logs())
def test_the_order_between_shards_does_not_matter(log: list[Delivery]) -> None:
    one, other = Ledger(), Ledger()
    one.deliver(log)
    other.deliver(sorted(log, key=lambda delivery: -delivery.shard))
    assert (one.books, one.fills) == (other.books, other.fills)


@given(logs())
def test_a_position_is_the_signed_sum_of_its_fills_and_its_version_counts_them(log: list[Delivery]) -> None:
    ledger = Ledger()
    ledger.deliver(log)
    for symbol, account in ledger.books.accounts.items():
        fills = [fill for fill in ledger.fills.values() if fill.symbol == symbol]
        assert sorted(fill.number for fill in fills) == list(range(1, account.version + 1))
        assert account.net_quantity == sum(-f.quantity if f.side == "buy" else f.quantity for f in fills)


@given(logs())
def test_every_message_advances_the_applied_sequence(log: list[Delivery]) -> None:
    ledger = Ledger()
    ledger.deliver(log)
    assert ledger.books.applied == {
        shard: max(d.sequence for d in log if d.shard == shard) for shard in {d.shard for d in log}
    }
