"""HTTP routes of the maker."""

from litestar import Response, get, post
from litestar.params import FromQuery
from litestar.types import ControllerRouterHandler
from msgspec.structs import replace

from maker.service import Maker
from maker.status import MakerStatus
from web.access import ASKER
from web.app import problems
from web.openapi import Samples
from web.paging import PAGING, page
from web.roles import Role, only
from wire.errors import Refusal

SAMPLES: Samples = {
    MakerStatus: (
        '{"paused":false,"switch":"quoting","switched_by":"","symbols":[{"symbol":"AAPL","state":"quoting","position_version":99,"net_quantity":-12,'
        '"quote_id":"AAPL-v99-a1","attempt":1,'
        '"last_refusal":{"at":"2026-11-23T05:48:34.296070Z","quote_id":"AAPL-v0-a1","reason":"unavailable"},'
        '"next_action_at":"2026-11-23T05:49:44.477259Z","loss":null}]}'
    )
}


def routes(maker: Maker) -> list[ControllerRouterHandler]:
    """Return the route handlers."""

    def first(status: MakerStatus, after: str | None = None) -> Response[MakerStatus]:
        """Return a page of a status, with the link to the next page."""
        symbols, headers = page("/status", status.symbols, after)
        return Response(replace(status, symbols=symbols), headers=headers)

    @get(
        "/status",
        summary="What the maker does for each symbol",
        description=PAGING,
        tags=["maker"],
        responses=problems(Refusal.INVALID_FIELD),
    )
    async def get_status(after: FromQuery[str | None] = None) -> Response[MakerStatus]:
        return first(maker.status(), after)

    @post(
        "/pause",
        status_code=200,
        summary="Kill switch: stop quoting and withdraw everything",
        description=(
            "Withdraws the quote of every symbol, whoever made it, and responds when none of them can execute any more."
            " All makers pause, and stay paused across restarts, until one of them receives a resume. 503: this maker"
            " has stopped quoting, but it is not known yet that every quote is withdrawn and that the other makers have"
            " paused. This maker keeps trying until a newer resume; pause again to find out."
        ),
        tags=["maker"],
        responses=problems(Refusal.OUTCOME_UNKNOWN),
        opt=only(Role.OPERATOR),
    )
    async def post_pause() -> Response[MakerStatus]:
        return first(await maker.pause(ASKER.get()))

    @post(
        "/resume",
        status_code=200,
        summary="Quote again",
        description="All makers resume, unless one is paused at the same time. 503: outcome unknown; resume again.",
        tags=["maker"],
        responses=problems(Refusal.NEWER_PAUSE, Refusal.OUTCOME_UNKNOWN),
        opt=only(Role.OPERATOR),
    )
    async def post_resume() -> Response[MakerStatus]:
        return first(await maker.resume(ASKER.get()))

    return [get_status, post_pause, post_resume]
