"""HTTP routes and the websocket of the ledger."""

from collections.abc import AsyncGenerator
from typing import Any

import msgspec
from litestar import Response, WebSocket, get, post, websocket
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.types import ControllerRouterHandler
from prometheus_client import Gauge

from ledger.service import Ledger
from runtime import streaming
from runtime.app import check_path, problems
from runtime.paging import TOLD, page
from runtime.roles import Role, only
from wire.errors import Refusal
from wire.messages import Fill, Position, Symbol

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
    async def post_fill(data: JSONBody[Fill]) -> Response[Position]:
        position, new = await ledger.report(data)
        return Response(position, status_code=201 if new else 200)

    @get(
        "/positions",
        summary="Every position",
        description=TOLD,
        tags=["positions"],
        responses=problems(Refusal.INVALID_FIELD, Refusal.UNAVAILABLE),
    )
    async def get_positions(after: FromQuery[str | None] = None) -> Response[list[Position]]:
        await ledger.confirm()
        positions, headers = page("/positions", (update.position for update in ledger.snapshot()), after)
        return Response(positions, headers=headers)

    @get(
        "/positions/{symbol:str}",
        summary="One position",
        tags=["positions"],
        responses=problems(Refusal.INVALID_FIELD, Refusal.UNKNOWN_SYMBOL, Refusal.UNAVAILABLE),
    )
    async def get_position(symbol: FromPath[str]) -> Position:
        known = check_path(symbol, Symbol, "symbol")
        await ledger.confirm(known)
        return ledger.position(known)

    @websocket("/positions/stream")
    async def stream(socket: WebSocket[Any, Any, Any]) -> None:
        await streaming.stream(socket, _frames(ledger), READERS)

    return [post_fill, get_positions, get_position, stream]


async def _frames(ledger: Ledger) -> AsyncGenerator[bytes, None]:
    """All positions, then those that change."""
    with ledger.updates.subscribe() as changes:
        rows = ledger.snapshot()
        while True:
            yield msgspec.json.encode(rows)
            rows = await changes.take()
