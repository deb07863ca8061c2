"""The rule for which fills count: every reader of the market log agrees on it, and so does the audit's own check."""

from collections.abc import Callable
from datetime import timedelta

import msgspec
import pytest

from exposure.usage import Usage
from ledger.positions import Books, fold
from ledger.positions import read as read_delivery
from recorded.replay import Place, Replay
from support.builders import NOW, market, recorded_fill
from ui.board import Board
from wire import fill_validation, subjects
from wire.fill_validation import Reason
from wire.market import SymbolMarket
from wire.orders import RecordedFill

SHARDS = 2
SHARD = subjects.shard_of("AAA", SHARDS)
SUBJECT = subjects.fills(SHARD, "AAA")

BEFORE = [recorded_fill(number=1), recorded_fill(number=2)]


def reported(number: int, fill_id: str) -> RecordedFill:
    return recorded_fill(number=number, fill_id=fill_id, origin="reported")


CASES: dict[str, tuple[list[RecordedFill], Reason | None]] = {
    "the next": ([recorded_fill(number=3)], None),
    "the next ones": ([recorded_fill(number=number) for number in (3, 4, 5)], None),
    "the next, reported": ([reported(3, "theirs-1")], None),
    "none": ([], Reason.UNREADABLE),
    "of another symbol": ([recorded_fill("BBB", 3)], Reason.MISPLACED),
    "one of another symbol": ([recorded_fill(number=3), recorded_fill("BBB", 4)], Reason.MISPLACED),
    "a number again": ([recorded_fill(number=2)], Reason.REPEATED_NUMBER),
    "a number again, and the next": ([recorded_fill(number=2), recorded_fill(number=3)], Reason.REPEATED_NUMBER),
    "from 1 again": ([recorded_fill(number=1)], Reason.REPEATED_NUMBER),
    "a gap before": ([recorded_fill(number=4)], Reason.SKIPPED_NUMBER),
    "a gap within": ([recorded_fill(number=number) for number in (3, 5)], Reason.SKIPPED_NUMBER),
    "a gap within, and the last as if there were none": (
        [recorded_fill(number=number) for number in (3, 7, 5)],
        Reason.SKIPPED_NUMBER,
    ),
    "backwards": ([recorded_fill(number=number) for number in (3, 2)], Reason.SKIPPED_NUMBER),
    "the id of another number": ([recorded_fill(number=3, fill_id="AAA-f2")], Reason.CONTRADICTS),
    "the id of another symbol": ([recorded_fill(number=3, fill_id="BBB-f3")], Reason.CONTRADICTS),
    "an id of no number": ([recorded_fill(number=3, fill_id="mine")], Reason.CONTRADICTS),
    "an id twice": ([recorded_fill(number=3), recorded_fill(number=4, fill_id="AAA-f3")], Reason.CONTRADICTS),
    "a reported id twice": ([reported(3, "theirs"), reported(4, "theirs")], Reason.CONTRADICTS),
    "reported, under the exchange's id": ([reported(3, "AAA-f3")], Reason.CONTRADICTS),
    "of two quotes": ([recorded_fill(number=3), recorded_fill(number=4, quote_id="other")], Reason.CONTRADICTS),
    "of two origins": ([recorded_fill(number=3), reported(4, "theirs")], Reason.CONTRADICTS),
}


def in_a_market(fills: list[RecordedFill]) -> int:
    market = SymbolMarket("AAA")
    for sequence, message in enumerate((BEFORE, fills), 1):
        market.fold_fills(sequence, message)
    assert market.head == 2, "the head moves whether or not the fills count"
    return market.fill_number


def in_exposure(fills: list[RecordedFill]) -> int:
    usage = Usage(timedelta(seconds=30), timedelta(seconds=2))
    for sequence, message in enumerate((BEFORE, fills), 1):
        usage.fold_fills("AAA", sequence, message)
    return usage.market("AAA").fill_number


def on_the_page(fills: list[RecordedFill]) -> int:
    board = Board(market().listings, NOW)
    for sequence, message in enumerate((BEFORE, fills), 1):
        board.apply_fills("AAA", sequence, message)
    return next(row.fills_recorded for row in board.take_changed() if row.symbol == "AAA")


def in_the_ledger(fills: list[RecordedFill]) -> int:
    messages = enumerate((BEFORE, fills), 1)
    deliveries = [read_delivery(SHARD, SHARDS, SUBJECT, number, msgspec.json.encode(each)) for number, each in messages]
    changes = fold(Books(), {}, deliveries)
    assert changes.applied == {SHARD: 2}, "the applied sequence moves, whatever counts"
    return changes.accounts["AAA"].version


def in_the_audit(fills: list[RecordedFill]) -> int:
    replay = Replay([], SHARDS)
    for sequence, message in enumerate((BEFORE, fills), 1):
        replay.feed(Place(SHARD, subjects.market_stream(SHARD), sequence, SUBJECT, NOW), msgspec.json.encode(message))
    return replay.books["AAA"].number


@pytest.mark.parametrize("reader", [in_a_market, in_exposure, on_the_page, in_the_ledger, in_the_audit])
@pytest.mark.parametrize("case", CASES)
def test_every_reader_counts_the_same_fills(case: str, reader: Callable[[list[RecordedFill]], int]) -> None:
    fills, reason = CASES[case]
    assert reader(fills) == (2 if reason else fills[-1].number)


@pytest.mark.parametrize("case", CASES)
def test_fills_that_do_not_count_have_a_reason(case: str) -> None:
    fills, reason = CASES[case]
    fault = fill_validation.judge("AAA", fills, 2)
    assert (fault.reason if fault else None) == reason


def test_a_fold_may_begin_with_any_number_but_numbers_must_be_consecutive() -> None:
    assert fill_validation.judge("AAA", [recorded_fill(number=7), recorded_fill(number=8)], None) is None
    assert fill_validation.judge("AAA", [recorded_fill(number=7), recorded_fill(number=9)], None) is not None
    assert fill_validation.judge("AAA", [recorded_fill(number=7)], 0) is not None


@pytest.mark.parametrize("payload", [b"", b"nonsense", b"{}", b"null", b"[" * 60_000, b'["\xff"]'])
def test_an_unreadable_payload_is_a_fault_not_an_exception(payload: bytes) -> None:
    fault = fill_validation.read(SUBJECT, payload, SHARDS).fault
    assert fault is not None
    assert fault.reason is Reason.UNREADABLE


def test_fills_outside_their_symbols_shard_are_misplaced() -> None:
    away = subjects.fills(1 - SHARD, "AAA")
    fault = fill_validation.read(away, msgspec.json.encode(BEFORE), SHARDS).fault
    assert fault is not None
    assert fault.reason is Reason.MISPLACED


def test_own_fills_that_do_not_follow_on_the_fold_raise() -> None:
    market = SymbolMarket("AAA")
    market.apply_own(1, BEFORE)
    market.apply_own(1, BEFORE)  # the log's follower was faster
    with pytest.raises(AssertionError, match="do not follow"):
        market.apply_own(2, [recorded_fill(number=4)])


@pytest.mark.parametrize("payload", [b"?", b"[]", b"[1]", b'[{"fill_id": "AAA-f1"}]'])
def test_reading_the_last_fill_of_an_unreadable_payload_is_a_fault(payload: bytes) -> None:
    _, fault = fill_validation.read_last(SUBJECT, payload, SHARDS)
    assert fault is not None
    assert fault.reason is Reason.UNREADABLE


def test_read_last_returns_the_last_fill_of_a_message() -> None:
    fills = [recorded_fill(number=number) for number in (3, 4, 5)]
    payload = msgspec.json.encode(fills)
    assert fill_validation.read_last(SUBJECT, payload, SHARDS) == (fills[-1:], None)
    _, fault = fill_validation.read_last(subjects.fills(1 - SHARD, "AAA"), payload, SHARDS)
    assert fault is not None
    assert fault.reason is Reason.MISPLACED
