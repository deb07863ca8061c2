"""Who quotes a symbol first: the makers that are there divide the symbols. Pure.

Rendezvous hashing: every maker has a weight for every symbol, and the makers' order for a symbol is that of their
weights. So all who know of the same makers agree without a word, and when one comes or goes only its own symbols move.

It is a matter of speed alone. Every maker may quote every symbol, and does if those before it have not within a while;
two that quote at the same time propose the same quote.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping


class Sharing:
    """The order of makers for each of some symbols."""

    def __init__(self, symbols: Iterable[str]) -> None:
        self._symbols = tuple(symbols)
        self._weights: dict[str, list[bytes]] = {}

    def places(self, own: str, makers: Collection[str]) -> Mapping[str, int]:
        """How many of the other makers come before `own`, for each symbol."""
        others = [maker for maker in makers if maker != own]
        self._weights = {maker: self._weights.get(maker) or self._weigh(maker) for maker in (own, *others)}
        ours, theirs = self._weights[own], [self._weights[maker] for maker in others]
        return {
            symbol: sum(weights[place] > ours[place] for weights in theirs)
            for place, symbol in enumerate(self._symbols)
        }

    def _weigh(self, maker: str) -> list[bytes]:
        return [hashlib.blake2b(f"{maker} {symbol}".encode(), digest_size=8).digest() for symbol in self._symbols]
