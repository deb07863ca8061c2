"""The exchange's HTTP routes."""

from litestar import delete, get, post, put
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody
from litestar.types import ControllerRouterHandler

from exchange.service import Exchange
from runtime.app import check_path
from wire.errors import Problem
from wire.messages import Order, OrderResult, Quote, QuoteRequest, Symbol

_NOT_FOUND = ResponseSpec(Problem, description="No such symbol, or no active quote: the type says which.")
_CONFLICT = ResponseSpec(Problem, description="Refused, and nothing changed: the type says why.")
_INVALID = ResponseSpec(Problem, description="The request makes no sense; `field` names the offender.")
_AGAIN = ResponseSpec(Problem, description="Not known or not possible now: send the same again after `Retry-After`.")


def routes(exchange: Exchange) -> list[ControllerRouterHandler]:
    """Orders and quotes."""

    @post(
        "/orders",
        status_code=200,
        summary="Execute an order",
        description="Immediate-or-cancel against the symbol's active quote. The same order id gets the same answer.",
        tags=["orders"],
        responses={400: _INVALID, 404: _NOT_FOUND, 409: _CONFLICT, 503: _AGAIN},
    )
    async def post_order(data: JSONBody[Order]) -> OrderResult:
        return await exchange.order(data)

    @put(
        "/quotes/{symbol:str}",
        summary="Make a quote active",
        description="Replaces the symbol's quote if it is newer, by position version and attempt, and its reservation "
        "is active and covers it. The same quote again gets the same answer.",
        tags=["quotes"],
        responses={400: _INVALID, 404: _NOT_FOUND, 409: _CONFLICT, 503: _AGAIN},
    )
    async def put_quote(symbol: FromPath[str], data: JSONBody[QuoteRequest]) -> Quote:
        return await exchange.put_quote(check_path(symbol, Symbol, "symbol"), data)

    @get(
        "/quotes/{symbol:str}",
        summary="A symbol's active quote",
        tags=["quotes"],
        responses={400: _INVALID, 404: _NOT_FOUND, 503: _AGAIN},
    )
    async def get_quote(symbol: FromPath[str]) -> Quote:
        return exchange.quote(check_path(symbol, Symbol, "symbol"))

    @get("/quotes", summary="Every active quote", tags=["quotes"], responses={503: _AGAIN})
    async def get_quotes() -> list[Quote]:
        return exchange.quotes()

    @delete(
        "/quotes/{symbol:str}",
        status_code=200,
        summary="Withdraw a symbol's quote",
        description="Answers the quote as it was.",
        tags=["quotes"],
        responses={400: _INVALID, 404: _NOT_FOUND, 503: _AGAIN},
    )
    async def delete_quote(symbol: FromPath[str]) -> Quote:
        return await exchange.withdraw(check_path(symbol, Symbol, "symbol"))

    return [post_order, put_quote, get_quote, get_quotes, delete_quote]
