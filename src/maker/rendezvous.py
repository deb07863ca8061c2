"""Ranks the makers for each symbol, so that the makers that are present divide the symbols. Pure.

Rendezvous hashing: each maker has a weight for each symbol, and the makers are ranked by their weights. So makers that
know of the same members agree without communication, and when one joins or leaves, only its own symbols move.

The ranking affects speed only. Every maker may quote every symbol, and does so if those ranked before it have not
within a time. Two makers that quote at the same time propose the same quote.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping


class Rendezvous:
    """Ranks makers for a fixed set of symbols."""

    def __init__(self, symbols: Iterable[str]) -> None:
        self._symbols = tuple(symbols)
        self._weights: dict[str, list[bytes]] = {}

    def ranks(self, own: str, makers: Collection[str]) -> Mapping[str, int]:
        """Return, for each symbol, how many of the other makers come before `own`: 0 if it is the first."""
        others = [maker for maker in makers if maker != own]
        self._weights = {maker: self._weights.get(maker) or self._weigh(maker) for maker in (own, *others)}
        ours, theirs = self._weights[own], [self._weights[maker] for maker in others]
        return {
            symbol: sum(weights[index] > ours[index] for weights in theirs)
            for index, symbol in enumerate(self._symbols)
        }

    def _weigh(self, maker: str) -> list[bytes]:
        return [hashlib.blake2b(f"{maker} {symbol}".encode(), digest_size=8).digest() for symbol in self._symbols]
