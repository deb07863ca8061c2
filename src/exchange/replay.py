"""Which fills of the last while count, for an exchange that starts: their order ids are to be remembered. Pure.

An exchange begins with the last message of each subject and then reads the log before it, piece by piece. There the
number of a symbol is not known yet, so a message counts by what follows it: another one goes on from it, or it is the
last of the piece that can count.
"""

from collections.abc import Sequence

from wire.fill_validation import judge
from wire.orders import RecordedFill

Fills = Sequence[RecordedFill]


class Replay:
    """One symbol's messages in a piece of the log.

    Args:
        symbol: whose.
        number: of the last fill of the piece that counts, and of the last before it if none in the piece does.
        filled: stream sequence of the message with that fill; None where it is not known.
    """

    def __init__(self, symbol: str, number: int, filled: int | None = None) -> None:
        self._symbol = symbol
        self._number = number
        self._filled = filled
        self._at: int | None = None
        self._held: list[Fills] = []
        self._first: int | None = None

    def feed(self, sequence: int, fills: Fills) -> list[Fills]:
        """The next message. Returns what is known to count by it and was not before, in order."""
        if judge(self._symbol, fills, self._at) is not None or fills[-1].number > self._number:
            return []
        before = [held for held in self._held if held[-1].number + 1 == fills[0].number][-1:]
        if self._at is None and not before and sequence != self._filled:
            self._held.append(fills)
            return []
        return self._count([*before, fills])

    def finish(self) -> list[Fills]:
        """The piece is over. Returns what counts, though nothing in it follows."""
        if self._at is not None:
            return []
        return self._count([held for held in self._held if held[-1].number == self._number][:1])

    def piece_before(self) -> "Replay":
        """For the piece of the log that ends where this one begins."""
        return Replay(self._symbol, self._number if self._first is None else self._first - 1)

    def _count(self, counts: list[Fills]) -> list[Fills]:
        if counts:
            self._held.clear()
            self._at = counts[-1][-1].number
            self._first = counts[0][0].number if self._first is None else self._first
        return counts
