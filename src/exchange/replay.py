"""Decides which recent fills count when an exchange starts, so that it remembers their order ids. Pure.

An exchange begins with the last message of each subject, and then reads the log before it backwards, in pieces. At the
beginning of a piece, the number that a symbol's fills had reached is not known. So whether a message counts shows in
what follows: another message continues its numbers, or it is the last message of the piece that can count.
"""

from collections.abc import Sequence

from wire.fill_validation import judge
from wire.orders import RecordedFill

Fills = Sequence[RecordedFill]


class Replay:
    """One symbol's messages of fills in one piece of the log.

    Args:
        symbol: the symbol.
        number: the number of the last fill in the piece that counts; if none counts, of the last one before the piece.
        filled: the stream sequence of the message with that fill; None if it is not known.
    """

    def __init__(self, symbol: str, number: int, filled: int | None = None) -> None:
        self._symbol = symbol
        self._number = number
        self._filled = filled
        self._at: int | None = None
        self._held: list[Fills] = []
        self._first: int | None = None

    def feed(self, sequence: int, fills: Fills) -> list[Fills]:
        """Take the next message. Return the messages that it proves to count, in order, each only once."""
        if judge(self._symbol, fills, self._at) is not None or fills[-1].number > self._number:
            return []
        before = [held for held in self._held if held[-1].number + 1 == fills[0].number][-1:]
        if self._at is None and not before and sequence != self._filled:
            self._held.append(fills)
            return []
        return self._count([*before, fills])

    def finish(self) -> list[Fills]:
        """End the piece. Return the message that counts although no other follows it in the piece."""
        if self._at is not None:
            return []
        return self._count([held for held in self._held if held[-1].number == self._number][:1])

    def piece_before(self) -> "Replay":
        """Return the replay for the piece of the log that ends where this one begins."""
        return Replay(self._symbol, self._number if self._first is None else self._first - 1)

    def _count(self, counts: list[Fills]) -> list[Fills]:
        if counts:
            self._held.clear()
            self._at = counts[-1][-1].number
            self._first = counts[0][0].number if self._first is None else self._first
        return counts
