"""Define instruments on a test's broker."""

from typing import Any

from msgspec.structs import replace

from jet import definition_log
from jet.connection import Connection
from process.settings import Market
from wire.definitions import Definitions, changes


async def seed(connection: Connection, market: Market) -> None:
    """Define the market, as the stack does if nothing is defined."""
    await definition_log.define(connection, lambda known: changes(known, market.terms, market.symbols))


async def redefine(connection: Connection, symbol: str, **different: Any) -> int:
    """Change fields of an instrument. Return its new revision."""

    def change(known: Definitions) -> Any:
        listing = known.listing(symbol)
        assert listing is not None
        return changes(known, None, {symbol: replace(listing.instrument, **different)})

    await definition_log.define(connection, change)
    listing = (await definition_log.read(connection)).listing(symbol)
    assert listing is not None
    return listing.revision
