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

from ledger.reading import Place
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
the fill that led to it. The first frame holds the position of every symbol; each one after it holds those that changed
since, only the newest of each symbol, so a slow reader misses versions but never the latest. A reader has nothing to
say: whatever it sends ends the connection. So does making no room for a frame within 5 seconds.
"""

READERS = Gauge("ledger_stream_readers", "Readers connected to the stream")


def routes(ledger: Ledger) -> list[ControllerRouterHandler]:
    """The handlers."""

    @post(
        "/fills",
        summary="Record a fill executed elsewhere",
        description=(
            "201: recorded; 200: recorded before, with the same content. Answered once the fill is committed, with the "
            "position that has it applied. A fill that names the symbol's latest quote takes from that quote; one that "
            "names any other moves the position only."
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
            f"By symbol and number, at most {PAGE_SIZE:,}. If there are more, the header `Link` names the next page "
            '(`rel="next"`). With `symbol`, only its fills, and `after` is the number of a fill; without, `after` is '
            "`SYMBOL:NUMBER`."
        ),
        tags=["fills"],
        responses=problems(Refusal.INVALID_FIELD, Refusal.UNKNOWN_SYMBOL, Refusal.UNAVAILABLE),
    )
    async def get_fills(
        symbol: FromQuery[str | None] = None, after: FromQuery[str | None] = None
    ) -> Response[list[NumberedFill]]:
        known = None if symbol is None else check_path(symbol, Symbol, "symbol")
        place = _place(known, after)
        await ledger.confirm(known)
        fills = await ledger.fills(known, place, PAGE_SIZE + 1)
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
        description=f"{PAGING} With `as_of`, as the fills that were executed until that time make them.",
        tags=["positions"],
        responses=problems(Refusal.INVALID_FIELD, Refusal.UNAVAILABLE),
    )
    async def get_positions(
        after: FromQuery[str | None] = None, as_of: FromQuery[str | None] = None
    ) -> Response[list[Position]]:
        time = None if as_of is None else _time(as_of)
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
            "With `as_of`: as it was at that version, which is a number, or as the fills that were executed until that "
            "time make it."
        ),
        tags=["positions"],
        responses=problems(Refusal.INVALID_FIELD, Refusal.UNKNOWN_SYMBOL, Refusal.UNAVAILABLE),
    )
    async def get_position(symbol: FromPath[str], as_of: FromQuery[str | None] = None) -> Position:
        known = check_path(symbol, Symbol, "symbol")
        asked = None if as_of is None else _number(as_of, "as_of") if as_of.isdecimal() else _time(as_of)
        await ledger.confirm(known)
        return ledger.position(known) if asked is None else await ledger.position_as_of(known, asked)

    @websocket("/positions/stream")
    async def stream(socket: WebSocket[Any, Any, Any]) -> None:
        await streaming.stream(socket, _frames(ledger), READERS)

    return [post_fill, get_fills, get_positions, get_position, stream]


def _place(symbol: str | None, after: str | None) -> Place:
    """Where a page of fills begins.

    Raises:
        Refused: INVALID_FIELD, naming `after`.
    """
    if after is None:
        return Place(symbol or "", 0)
    if symbol is not None:
        return Place(symbol, _number(after, "after"))
    beyond, _, number = after.partition(":")
    return Place(check_path(beyond, Symbol, "after"), _number(number, "after"))


def _number(text: str, field: str) -> int:
    try:
        return msgspec.convert(text, Version, strict=False)
    except msgspec.ValidationError as error:
        raise Refused(Refusal.INVALID_FIELD, "is not the number of a fill", field=field) from error


def _time(text: str) -> datetime:
    try:
        time = msgspec.convert(text, Time)
        check_time("as_of", time)
    except (msgspec.ValidationError, FieldError) as error:
        detail = "is no time, as 2026-01-05T09:30:00Z is one, and no version of a position"
        raise Refused(Refusal.INVALID_FIELD, detail, field="as_of") from error
    return time


async def _frames(ledger: Ledger) -> AsyncGenerator[bytes, None]:
    """All positions, then those that change."""
    with ledger.updates.subscribe() as changes:
        rows = ledger.snapshot()
        while True:
            yield msgspec.json.encode(rows)
            rows = await changes.take()
