"""`stack market` and `stack symbol`: compare the defined market with a file, and change it while everything runs."""

import sys
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from jet import definition_log
from jet.connection import Connection
from process.health import Health
from process.settings import Market, SettingsError
from stack.connect import connect
from stack.settings import StackSettings
from wire.definitions import TERMS, Change, Definitions, changes
from wire.errors import Refused
from wire.instruments import Instrument
from wire.units import FieldError

REFUSED = 2
"""The exit code for an invalid change."""


async def diff(settings: StackSettings) -> int:
    """Print what the settings would change. Return the exit code: 0 for no change, else 1."""

    async def compare(connection: Connection) -> int:
        known = await definition_log.read(connection)
        wanted = changes(known, settings.market.terms, settings.market.symbols)
        _print_changes(wanted)
        if wanted:
            command = f"`market apply --revision {known.latest_revision}`"
            print(f"{command} defines this, unless something else is defined first")
        beyond = [symbol for symbol in known.symbols if symbol not in settings.market.symbols]
        for symbol in beyond:
            print(f"{symbol}: defined, but not in the settings: it is not changed")
        if not wanted:
            print("the defined market agrees with the settings")
        return 1 if wanted else 0

    return await _with_broker(settings, compare)


async def apply(settings: StackSettings, revision: int | None = None) -> int:
    """Print what the settings change, and define it, unless something was defined after `revision`. Return the exit
    code.

    `revision` defaults to the one that is read first.
    """
    market: Market = settings.market

    def wanted(known: Definitions) -> list[Change]:
        return changes(known, market.terms, market.symbols)

    async def change(connection: Connection) -> int:
        known = await definition_log.read(connection)
        if revision is not None and revision > known.latest_revision:
            raise FieldError("revision", f"is {known.latest_revision}, and was never {revision}; see `market diff`")
        _print_changes(wanted(known))
        done = await definition_log.define(
            connection, wanted, since=known.latest_revision if revision is None else revision
        )
        return _done(done)

    return await _with_broker(settings, change)


async def set_symbol(settings: StackSettings, symbol: str, fields: Sequence[str]) -> int:
    """Change fields, given as `name=value`, of one instrument, or define a new one. Return the exit code."""

    def change(known: Definitions) -> list[Change]:
        listing = known.listing(symbol)
        before = msgspec.to_builtins(listing.instrument) if listing is not None else {}
        return changes(known, None, {symbol: _instrument(before | dict(map(_field, fields)))})

    return await _define(settings, change)


def _field(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    if not equals:
        raise FieldError(text, "must be NAME=VALUE")
    return name, value or None


def _instrument(fields: dict[str, object]) -> Instrument:
    known = {field for field in Instrument.__struct_fields__ if fields.get(field) is not None}
    for name in sorted(set(fields) - set(Instrument.__struct_fields__)):
        raise FieldError(name, "is not a field of an instrument")
    try:
        return msgspec.convert({name: fields[name] for name in known}, Instrument, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"symbol: {error}") from error


async def _define(settings: StackSettings, decide: definition_log.Decide) -> int:
    async def change(connection: Connection) -> int:
        done = await definition_log.define(connection, decide)
        _print_changes(done)
        return _done(done)

    return await _with_broker(settings, change)


def _done(done: Sequence[Change]) -> int:
    print(f"{len(done)} {'key' if len(done) == 1 else 'keys'} defined" if done else "nothing to change")
    return 0


async def _with_broker(settings: StackSettings, run: Callable[[Connection], Awaitable[int]]) -> int:
    async with connect(settings, "market", "operator", Health("market")) as connection:
        try:
            return await run(connection)
        except FieldError as error:
            print(error, file=sys.stderr)
            return REFUSED
        except Refused as refused:
            print(refused.detail, file=sys.stderr)
            return 1


def _print_changes(wanted: Sequence[Change]) -> None:
    for change in wanted:
        name = "all symbols" if change.key == TERMS else change.key.partition(".")[2] or change.key
        for field, (before, after) in change.differs.items():
            print(f"{name}: {field} {before} → {after}")
