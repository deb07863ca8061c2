"""Fills before a start: only of those that count are the order ids remembered."""

import pytest

from exchange.replay import Fills, Replay
from support.builders import recorded_fill


def message(*numbers: int) -> Fills:
    return [recorded_fill(number=number) for number in numbers]


def counted(replay: Replay, read: list[tuple[int, ...]]) -> list[int]:
    known = [fills for sequence, numbers in enumerate(read, 1) for fills in replay.feed(sequence, message(*numbers))]
    return [fill.number for fills in [*known, *replay.finish()] for fill in fills]


@pytest.mark.parametrize("known", [True, False], ids=["at a known sequence", "only its number known"])
@pytest.mark.parametrize(
    ("read", "counts"),
    [
        ([(6,), (7, 8), (9,)], [6, 7, 8, 9]),
        ([(9,)], [9]),
        ([(8,), (1,), (9,)], [8, 9]),
        ([(1,), (8,), (9,)], [8, 9]),
        ([(8,), (1000,), (9,)], [8, 9]),
        ([(1000,), (9,)], [9]),
        ([(8,), (8,), (9,)], [8, 9]),
        ([(7,), (8,), (2,), (8,), (9,)], [7, 8, 9]),
        ([(7, 9), (8,), (9,)], [8, 9]),
        ([(5,), (8,), (9,)], [8, 9]),
    ],
)
def test_fills_that_lead_up_to_the_fold_count(read: list[tuple[int, ...]], counts: list[int], known: bool) -> None:
    """The last message that is read is the one with which the fold began."""
    assert counted(Replay("AAA", 9, len(read) if known else None), read) == counts


def test_fills_after_the_beginning_of_the_fold_do_not_count() -> None:
    replay = Replay("AAA", 9, filled=2)
    assert replay.feed(2, message(9))
    assert not replay.feed(3, message(10))


def test_the_log_is_read_back_piece_by_piece() -> None:
    last = Replay("AAA", 9)
    assert counted(last, [(8,), (9,)]) == [8, 9]
    before = last.piece_before()
    assert counted(before, [(3,), (9,), (1000,)]) == []
    assert counted(before.piece_before(), [(5, 6), (7,)]) == [5, 6, 7]
