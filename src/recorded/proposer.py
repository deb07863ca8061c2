"""Makes proposals again as makers make them: from a position and the revision of the instrument. Pure."""

from collections.abc import Mapping
from functools import lru_cache

from maker.proposal import propose
from recorded.revisions import Revisions
from wire import ids
from wire.ids import QuoteVersion
from wire.instruments import Listing
from wire.positions import Position
from wire.quotes import PutQuote, QuoteActivated


class Proposer:
    """Makes proposals as makers do."""

    def __init__(self, before: Mapping[str, Listing], revisions: Revisions) -> None:
        """`before`: the listings of revision 0, which was quoted before anything was defined."""
        self._before = before
        self._revisions = revisions
        self._cached = lru_cache(maxsize=65_536)(self._propose)

    def propose(self, symbol: str, version: QuoteVersion, net: int) -> PutQuote | None:
        """Return the proposal for a position; None if it has no quote, or the instrument never had that revision."""
        listing = self._listing(symbol, version.revision)
        if listing is None:
            return None
        position = Position(symbol=symbol, net_quantity=net, position_version=version.position_version)
        return propose(listing, position, version.attempt)

    def _listing(self, symbol: str, revision: int) -> Listing | None:
        return self._revisions.listing(symbol, revision) if revision else self._before.get(symbol)

    def has_forgotten(self, event: QuoteActivated) -> bool:
        """True if the revision from which the quote was made is no longer kept."""
        return self._revisions.is_forgotten(event.symbol, event.revision)

    def difference(self, event: QuoteActivated, net: int) -> str | None:
        """Describe how a quote differs from the proposal for its position; None if it does not. It may be smaller."""
        proposal = self._cached(event.symbol, event.revision, net)
        if proposal is None:
            return "the settings lead to no quote"
        quote = proposal.quote
        for side in ("bid", "ask"):
            has, wanted = getattr(event, f"{side}_price"), getattr(quote, f"{side}_price")
            if str(has) != str(wanted):
                return f"its {side} is {has}, the settings lead to {wanted}"
            lots, most = getattr(event, f"{side}_quantity"), getattr(quote, f"{side}_quantity")
            if lots > most:
                return f"its {side} is for {lots} lots, the settings lead to at most {most}"
        return None

    def _propose(self, symbol: str, revision: int, net: int) -> PutQuote | None:
        """Make a proposal from all that prices and quantities depend on."""
        return self.propose(symbol, QuoteVersion(0, revision, 1), net)


def is_derived(event: QuoteActivated) -> bool:
    """True if the quote's ids are those that a maker gives it."""
    quote_id = ids.quote_id(event.symbol, event.version)
    return event.quote_id == quote_id and event.reservation_id == ids.reservation_id(quote_id)
