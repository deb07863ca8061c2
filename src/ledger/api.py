"""HTTP routes and the websocket of the ledger."""

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec
from litestar import Response, WebSocket, get, post, websocket
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.types import ControllerRouterHandler
from prometheus_client import Gauge

from ledger.queries import FillCursor
from ledger.service import Ledger
from web import streaming
from web.access import current_asker
from web.app import check_path, problems
from web.paging import PAGE_SIZE, PAGING, link, page
from web.roles import Role, only
from wire.errors import Refusal, Refused
from wire.fields import Symbol, Time, Version
from wire.orders import NumberedFill, ReportedFill
from wire.positions import Position
from wire.units import FieldError, check_time

DESCRIPTION = """
The authority on positions. Only committed positions are shown.

The websocket `/positions/stream` sends text frames, each a JSON array of position updates: a position with `last_fill`,
the fill that led to it. The first frame holds the position of every symbol. Each later frame holds the positions that
have changed since, only the newest of each symbol: a slow reader misses versions, but never the latest. The connection
is closed if the reader sends anything, or does not accept a frame within 5 seconds.
"""

_NOT_A_TIME = "is not a time, such as 2026-01-05T09:30:00Z"
_NOT_A_TIME_OR_VERSION = "is neither a time, such as 2026-01-05T09:30:00Z, nor a version of a position"

READERS = Gauge("ledger_stream_readers", "Readers connected to the stream")


def routes(ledger: Ledger) -> list[ControllerRouterHandler]:
    """Return the route handlers."""

    @post(
        "/fills",
        summary="Record a fill executed elsewhere",
        description=(
            "201: recorded; 200: recorded before, with the same content. The response is sent once the fill is "
            "committed, and is the position after it. A fill that names the symbol's latest quote reduces what is left "
            "of that quote; a fill that names any other quote changes the position only."
        ),
        tags=["fills"],
        responses={
            200: ResponseSpec(Position, description="Recorded before"),
            **problems(
                Refusal.BAD_REQUEST,
                Refusal.INVALID_FIELD,
                Refusal.TOO_LARGE,
                Refusal.UNKNOWN_SYMBOL,
                Refusal.FILL_CONTRADICTS,
                Refusal.UNAVAILABLE,
                Refusal.OUTCOME_UNKNOWN,
            ),
        },
        opt=only(Role.EXCHANGE),
    )
    async def post_fill(data: JSONBody[ReportedFill]) -> Response[Position]:
        position, new = await ledger.report(data, current_asker())
        return Response(position, status_code=201 if new else 200)

    @get(
        "/fills",
        summary="Recorded fills",
        description=(
            f"At most {PAGE_SIZE:,} fills, sorted by symbol and number. If there are more, the header `Link` names the "
            'next page (`rel="next"`). With `symbol`, the response holds only its fills, and `after` is the number of '
            "a fill; without, `after` is `SYMBOL:NUMBER`."
        ),
        tags=["fills"],
        responses=problems(Refusal.INVALID_FIELD, Refusal.UNKNOWN_SYMBOL, Refusal.UNAVAILABLE),
    )
    async def get_fills(
        symbol: FromQuery[str | None] = None, after: FromQuery[str | None] = None
    ) -> Response[list[NumberedFill]]:
        known = None if symbol is None else check_path(symbol, Symbol, "symbol")
        cursor = _cursor(known, after)
        await ledger.confirm(known)
        fills = await ledger.fills(known, cursor, PAGE_SIZE + 1)
        shown = fills[:PAGE_SIZE]
        if len(fills) == len(shown):
            return Response(shown)
        last = shown[-1]
        if known is None:
            return Response(shown, headers=link("/fills", f"{last.symbol}:{last.number}"))
        return Response(shown, headers=link(f"/fills?symbol={known}", str(last.number)))

    @get(
        "/positions",
        summary="Every position",
        description=f"{PAGING} With `as_of`: the positions that result from the fills executed until that time.",
        tags=["positions"],
        responses=problems(Refusal.INVALID_FIELD, Refusal.UNAVAILABLE),
    )
    async def get_positions(
        after: FromQuery[str | None] = None, as_of: FromQuery[str | None] = None
    ) -> Response[list[Position]]:
        time = None if as_of is None else _time(as_of, _NOT_A_TIME)
        await ledger.confirm()
        if time is None:
            rows = [update.position for update in ledger.snapshot()]
        else:
            rows = await ledger.positions_as_of(time)
        positions, headers = page("/positions" if as_of is None else f"/positions?as_of={quote(as_of)}", rows, after)
        return Response(positions, headers=headers)

    @get(
        "/positions/{symbol:str}",
        summary="One position",
        description=(
            "With `as_of`: the position at that version, if it is a number, or the position that results from the "
            "fills executed until that time."
        ),
        tags=["positions"],
        responses=problems(Refusal.INVALID_FIELD, Refusal.UNKNOWN_SYMBOL, Refusal.UNAVAILABLE),
    )
    async def get_position(symbol: FromPath[str], as_of: FromQuery[str | None] = None) -> Position:
        known = check_path(symbol, Symbol, "symbol")
        at = None if as_of is None else _version_or_time(as_of)
        await ledger.confirm(known)
        return ledger.position(known) if at is None else await ledger.position_as_of(known, at)

    @websocket("/positions/stream")
    async def stream(socket: WebSocket[Any, Any, Any]) -> None:
        await streaming.stream(socket, _frames(ledger), READERS)

    return [post_fill, get_fills, get_positions, get_position, stream]


def _cursor(symbol: str | None, after: str | None) -> FillCursor:
    """Return the cursor after which a page of fills begins.

    Raises:
        Refused: INVALID_FIELD, naming `after`.
    """
    if after is None:
        return FillCursor(symbol or "", 0)
    if symbol is not None:
        return FillCursor(symbol, _number(after, "after"))
    last_symbol, _, number = after.partition(":")
    return FillCursor(check_path(last_symbol, Symbol, "after"), _number(number, "after"))


def _number(text: str, field: str) -> int:
    try:
        return msgspec.convert(text, Version, strict=False)
    except msgspec.ValidationError as error:
        raise Refused(Refusal.INVALID_FIELD, "is not the number of a fill", field=field) from error


def _version_or_time(text: str) -> int | datetime:
    return _number(text, "as_of") if text.isdecimal() else _time(text, _NOT_A_TIME_OR_VERSION)


def _time(text: str, otherwise: str) -> datetime:
    """Return the time that `as_of` names.

    Raises:
        Refused: INVALID_FIELD, with `otherwise` as its detail.
    """
    try:
        time = msgspec.convert(text, Time)
        check_time("as_of", time)
    except (msgspec.ValidationError, FieldError) as error:
        raise Refused(Refusal.INVALID_FIELD, otherwise, field="as_of") from error
    return time


async def _frames(ledger: Ledger) -> AsyncGenerator[bytes, None]:
    """Yield all positions, then those that change."""
    with ledger.updates.subscribe() as changes:
        rows = ledger.snapshot()
        while True:
            yield msgspec.json.encode(rows)
            rows = await changes.take()
