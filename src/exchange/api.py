"""The exchange's HTTP routes."""

import re
from typing import Annotated

from litestar import Response, delete, get, post, put
from litestar.params import FromPath, FromQuery, HeaderParameter, JSONBody
from litestar.types import ControllerRouterHandler

from exchange.service import Exchange
from web.access import ASKER, current_asker
from web.app import check_path, problems
from web.fast_route import FastRoute
from web.paging import PAGING, page
from web.roles import READ, Role, only
from wire.errors import Refusal, Refused
from wire.fields import Id, Symbol
from wire.instruments import Instrument, ListedInstrument
from wire.orders import Order, OrderResult
from wire.quotes import Quote, QuoteRequest
from wire.references import PutReferences, ReferencesTaken

_BODY = (Refusal.BAD_REQUEST, Refusal.INVALID_FIELD, Refusal.TOO_LARGE)
_WRITES = (Refusal.OVERLOADED, Refusal.UNAVAILABLE, Refusal.OUTCOME_UNKNOWN)
_NO_QUOTE = (Refusal.UNKNOWN_SYMBOL, Refusal.NEVER_QUOTED, Refusal.QUOTE_EXPIRED, Refusal.QUOTE_WITHDRAWN)
_NOT_NOW = (
    Refusal.STALE_QUOTE,
    Refusal.POSITION_UNKNOWN,
    Refusal.REVISION_UNKNOWN,
    Refusal.NOT_QUOTED,
    Refusal.ATTEMPT_TOO_FAR,
    Refusal.QUOTE_ID_REUSED,
    Refusal.RESERVATION_NOT_ACTIVE,
    Refusal.MORE_THAN_RESERVED,
    Refusal.SUPERSEDED,
)


_IF_MATCH = HeaderParameter(name="If-Match")
_ETAG = re.compile(r'"(0|[1-9][0-9]{0,15})"')
_ORDERS = "/orders"
_TRADING = frozenset({Role.TRADER})


def fast_route(exchange: Exchange) -> FastRoute[Order]:
    """Return the busiest route, `POST /orders`, which the server handles without the app."""
    return FastRoute(_ORDERS, Order, lambda order: exchange.order(order, current_asker()), _TRADING)


def routes(exchange: Exchange) -> list[ControllerRouterHandler]:
    """Return the handlers for orders, quotes, instruments and reference prices."""

    @post(
        _ORDERS,
        status_code=200,
        summary="Execute an order",
        description="Immediate-or-cancel against the symbol's active quote. The same order id gets the same answer.",
        tags=["orders"],
        responses=problems(*_BODY, Refusal.UNKNOWN_SYMBOL, Refusal.ORDER_ID_REUSED, *_WRITES),
        opt=only(*_TRADING),
    )
    async def post_order(data: JSONBody[Order]) -> OrderResult:
        return await exchange.order(data, current_asker())

    @put(
        "/quotes/{symbol:str}",
        summary="Make a quote active",
        description="Replaces the symbol's quote if the new one has a newer position version, revision or attempt, and "
        "its reservation is active and covers it. The same quote sent again gets the same answer.",
        tags=["quotes"],
        responses=problems(*_BODY, Refusal.UNKNOWN_SYMBOL, *_NOT_NOW, *_WRITES),
        opt=only(Role.MAKER),
    )
    async def put_quote(symbol: FromPath[str], data: JSONBody[QuoteRequest]) -> Quote:
        return await exchange.put_quote(check_path(symbol, Symbol, "symbol"), data, f"token {ASKER.get()}")

    @get(
        "/quotes/{symbol:str}",
        summary="A symbol's active quote",
        tags=["quotes"],
        responses=problems(Refusal.INVALID_FIELD, *_NO_QUOTE, Refusal.UNAVAILABLE),
        opt=only(*READ, Role.TRADER),
    )
    async def get_quote(symbol: FromPath[str]) -> Quote:
        traded = check_path(symbol, Symbol, "symbol")
        await exchange.confirm(traded)
        return exchange.quote(traded)

    @get(
        "/quotes",
        summary="Every active quote",
        description=PAGING,
        tags=["quotes"],
        responses=problems(Refusal.INVALID_FIELD, Refusal.UNAVAILABLE),
        opt=only(*READ, Role.TRADER),
    )
    async def get_quotes(after: FromQuery[str | None] = None) -> Response[list[Quote]]:
        await exchange.confirm()
        quotes, headers = page("/quotes", exchange.quotes(), after)
        return Response(quotes, headers=headers)

    @delete(
        "/quotes/{symbol:str}",
        status_code=200,
        summary="Withdraw a symbol's quote",
        description=(
            "Returns the quote as it was. With `quote_id`, withdraws only that quote; without it, whichever quote is"
            " active when the exchange first decides on the request."
        ),
        tags=["quotes"],
        responses=problems(Refusal.INVALID_FIELD, *_NO_QUOTE, Refusal.STALE_QUOTE, *_WRITES),
        opt=only(Role.MAKER, Role.OPERATOR),
    )
    async def delete_quote(symbol: FromPath[str], quote_id: FromQuery[str | None] = None) -> Quote:
        named = None if quote_id is None else check_path(quote_id, Id, "quote_id")
        return await exchange.withdraw(check_path(symbol, Symbol, "symbol"), named, f"token {ASKER.get()}")

    @get(
        "/instruments",
        summary="Every instrument",
        description=f"Each in its current state, with its revision, including delisted ones. {PAGING}",
        tags=["instruments"],
        responses=problems(Refusal.INVALID_FIELD, Refusal.UNAVAILABLE),
        opt=only(*READ, Role.TRADER),
    )
    async def get_instruments(after: FromQuery[str | None] = None) -> Response[list[ListedInstrument]]:
        instruments, headers = page("/instruments", await exchange.instruments(), after)
        return Response(instruments, headers=headers)

    @get(
        "/instruments/{symbol:str}",
        summary="An instrument",
        description="Its current state. The `ETag` is the revision of the instrument's own definition, for `If-Match`.",
        tags=["instruments"],
        responses=problems(Refusal.INVALID_FIELD, Refusal.UNKNOWN_SYMBOL, Refusal.UNAVAILABLE),
        opt=only(*READ, Role.TRADER),
    )
    async def get_instrument(symbol: FromPath[str]) -> Response[ListedInstrument]:
        return _tagged(*await exchange.instrument(check_path(symbol, Symbol, "symbol")))

    @put(
        "/instruments/{symbol:str}",
        summary="Define an instrument",
        description="Takes effect at once: the symbol's quote is replaced, or withdrawn if the state requires it. "
        "Sending the same definition again changes nothing. With `If-Match`, the instrument is defined only if its own "
        "definition still has that revision.",
        tags=["instruments"],
        responses=problems(*_BODY, Refusal.REVISION_CHANGED, Refusal.UNAVAILABLE, Refusal.OUTCOME_UNKNOWN),
        opt=only(Role.OPERATOR),
    )
    async def put_instrument(
        symbol: FromPath[str], data: JSONBody[Instrument], if_match: Annotated[str | None, _IF_MATCH] = None
    ) -> Response[ListedInstrument]:
        named = check_path(symbol, Symbol, "symbol")
        return _tagged(*await exchange.define(named, data, ASKER.get(), _revision(if_match)))

    @put(
        "/references",
        summary="Send reference prices",
        description="A feed sends the prices of many symbols at one time. All are accepted, or none if one is too old,"
        " from the future, off the tick, or too far from the price in force. For each symbol the newest price counts."
        " The response is sent once they are on disk.",
        tags=["instruments"],
        responses=problems(*_BODY, Refusal.UNKNOWN_SYMBOL, Refusal.UNAVAILABLE, Refusal.OUTCOME_UNKNOWN),
        opt=only(Role.FEED, Role.OPERATOR),
    )
    async def put_references(data: JSONBody[PutReferences]) -> ReferencesTaken:
        return await exchange.put_references(data, ASKER.get())

    return [
        post_order,
        put_quote,
        get_quote,
        get_quotes,
        delete_quote,
        get_instruments,
        get_instrument,
        put_instrument,
        put_references,
    ]


def _tagged(instrument: ListedInstrument, revision: int) -> Response[ListedInstrument]:
    return Response(instrument, headers={"ETag": f'"{revision}"'})


def _revision(if_match: str | None) -> int | None:
    """Return the revision that an `If-Match` header names; None without one.

    Raises:
        Refused: INVALID_FIELD.
    """
    if if_match is None:
        return None
    found = _ETAG.fullmatch(if_match)
    if found is None:
        raise Refused(Refusal.INVALID_FIELD, "must be the ETag of an instrument, in quotes", field="If-Match")
    return int(found[1])
