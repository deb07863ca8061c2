"""Signing in to the page, if tokens are on: a browser cannot send a token with a websocket, but it sends cookies.

The page's form posts the token once and receives a cookie, which no script can read and no other site can send. The
cookie contains its expiry and a MAC made with the token, but not the token. It permits reading for `SESSION_LIFETIME`
seconds.
"""

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, post
from litestar.datastructures import Cookie
from litestar.params import JSONBody
from litestar.types import ControllerRouterHandler
from msgspec import Meta

from web.access import COOKIE, Access
from web.roles import READ, anyone
from web.tokens import SESSION_LIFETIME
from wire.errors import Refusal, Refused


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The form's content."""

    token: Annotated[str, Meta(max_length=200)]


def login(access: Access) -> list[ControllerRouterHandler]:
    """Return the handler of the form; none if tokens are off."""
    tokens = access.tokens
    if tokens is None:
        return []

    @post("/login", include_in_schema=False, status_code=204, opt=anyone())
    async def post_login(request: Request[Any, Any, Any], data: JSONBody[Login]) -> Response[None]:
        token = data.token.encode()
        if not tokens.roles(token) & READ:
            raise Refused(Refusal.UNAUTHENTICATED, "the token is not valid, or not for reading")
        cookie = Cookie(
            COOKIE,
            value=tokens.new_session(token),
            max_age=SESSION_LIFETIME,
            httponly=True,
            samesite="strict",
            secure=request.scope["scheme"] == "https",
        )
        return Response(None, status_code=204, cookies=[cookie])

    return [post_login]
