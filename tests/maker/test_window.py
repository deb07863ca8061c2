"""The window limits concurrent attempts over many symbols, and queues the others."""

from datetime import timedelta

import pytest

from maker.window import MIN_SIZE, Window
from support.builders import NOW
from support.waiting import eventually


class Symbols:
    """Symbols that need places in a window. Records which were woken."""

    def __init__(self, size: int) -> None:
        self.window = Window(size)
        self.woken: list[str] = []

    def enter(self, *symbols: str, seconds: float = 0.0) -> list[bool]:
        until = NOW + timedelta(seconds=seconds)
        return [self.window.enter(symbol, lambda symbol=symbol: self.woken.append(symbol), until) for symbol in symbols]  # type: ignore[misc] # a default binds


async def test_symbols_without_a_place_get_one_in_turn() -> None:
    symbols = Symbols(2)
    assert symbols.enter(*"ABCD") == [True, True, False, False]
    assert symbols.enter("D", "C") == [False, False], "entering again keeps the place in the queue"
    symbols.window.leave("B")
    assert symbols.woken == ["C"]
    assert symbols.enter("C", "D") == [True, False]
    symbols.window.leave("A")
    assert symbols.woken == ["C", "D"]


async def test_the_queue_is_ordered_by_when_quotes_end() -> None:
    symbols = Symbols(1)
    symbols.enter("A")
    symbols.enter("B", seconds=20)
    symbols.enter("C", seconds=10)
    symbols.enter("D", seconds=15)
    symbols.enter("E", seconds=12)  # without a quote: queued after the quote of C had ended
    symbols.enter("B", seconds=11)  # its quote was withdrawn
    for symbol in "ACBED":
        symbols.window.leave(symbol)
    assert symbols.woken == list("CBED")


async def test_a_symbol_keeps_its_place() -> None:
    symbols = Symbols(1)
    assert symbols.enter("A", "A", "B") == [True, True, False]


async def test_a_symbol_that_leaves_the_queue_takes_no_place() -> None:
    symbols = Symbols(1)
    symbols.enter(*"ABC")
    symbols.window.leave("B")
    symbols.window.leave("A")
    assert symbols.woken == ["C"]
    symbols.window.leave("C")
    symbols.window.leave("C")
    assert symbols.enter("A", "B") == [True, False]


async def test_an_unanswered_attempt_loses_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maker.window.ATTEMPT_TIMEOUT", 0.01)
    symbols = Symbols(1)
    symbols.enter(*"AB")
    await eventually(lambda: symbols.woken == ["B"])


async def test_overtaken_attempts_narrow_the_window_and_successful_ones_widen_it() -> None:
    symbols = Symbols(MIN_SIZE + 2)
    for _ in range(99):
        symbols.window.narrow()
    assert symbols.enter(*"ABC") == [True] * MIN_SIZE + [False], (
        "some places remain, however many attempts were overtaken"
    )
    for _ in range(2):
        symbols.window.widen()
    symbols.window.leave("C")
    assert symbols.enter("F") == [True]
    for _ in range(99):
        symbols.window.widen()
    assert symbols.enter("G", "H") == [True, False], "the window never exceeds its initial size"
