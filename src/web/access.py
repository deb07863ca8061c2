"""Who may ask over HTTP: where a request may come from, and the roles of its token.

A page of another site, open in a browser on this machine, can send requests to every port here. So a request

- must call the service by an address, by `localhost`, or by a name it was told that it has: a name that its owner
  points at this machine (DNS rebinding) would make the other page one of ours;
- may come from our own page, or from none at all: browsers tell in `Origin` which page asks;
- may not change anything with a body as a form sends it.

If tokens are on, it must hold one with a role that the route is for. All this costs a request well below a microsecond
while tokens are off, so that the busiest route is checked like any other.
"""

import ipaddress
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from litestar.connection import ASGIConnection
from litestar.enums import ScopeType
from litestar.exceptions import WebSocketException
from litestar.handlers import BaseRouteHandler
from prometheus_client import Counter

from process.clock import Clock
from process.settings import SettingsError, Stack, split_list
from web.roles import ANYONE, NOBODY, READ, Role, Roles
from web.tokens import STRANGER, Bearer, Tokens, TokensError
from wire import ids
from wire.errors import Refusal, Refused

COOKIE = "quotestream-reader"
_COOKIE = COOKIE.encode()
_MAX_SESSIONS = 8
"""How many cookies of that name are looked at: each costs a digest."""

UNRESTRICTED = Bearer(ANYONE, "")
PAGE = Bearer(frozenset({Role.READER}), "page")

ASKER: ContextVar[str] = ContextVar("asker", default="")
"""Whose token came with the request that is handled; empty if nobody's, or for a request that only reads."""

DENIED = Counter("quotestream_http_denied", "Requests that were not admitted, by reason.", ["reason"])


def current_asker() -> str | None:
    """What is kept of whose token came with the request that is handled; None if there was none."""
    name = ASKER.get()
    return ids.asker(f"token {name}") if name else None


_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_JSON = b"application/json"
_FORMS = (b"application/x-www-form-urlencoded", b"multipart/form-data", b"text/plain")
_OWN_SITE = frozenset({b"same-origin", b"none"})
_POLICY_VIOLATION = 1008


class Access:
    """The rules of one service.

    Args:
        tokens: the tokens and their roles; None if nobody is asked for one.
        hosts: names the service goes by, beside `localhost` and every address.
        origins: other origins whose pages may ask, such as `https://desk.example`.
    """

    def __init__(self, tokens: Tokens | None = None, hosts: Sequence[str] = (), origins: Sequence[str] = ()) -> None:
        self.tokens = tokens
        self._hosts = frozenset({"localhost", *(host.lower() for host in hosts)})
        self._origins = frozenset(origin.encode() for origin in origins)
        self._is_host = lru_cache(maxsize=256)(self._is_own_host)

    @classmethod
    def of(cls, stack: Stack) -> Self:
        """The rules that the settings ask for.

        Raises:
            SettingsError: the folder of tokens makes no sense.
        """
        try:
            tokens = Tokens(Path(stack.tokens)) if stack.tokens else None
        except TokensError as error:
            raise SettingsError(f"QS_STACK_TOKENS: {error}") from error
        return cls(tokens, [stack.host, *split_list(stack.hosts)], split_list(stack.origins))

    def use_clock(self, clock: Clock) -> None:
        """Have tokens end by the clock that the service decides by, whatever is done to its machine's."""
        if self.tokens is not None:
            self.tokens.clock = clock

    def admits(self, headers: Mapping[bytes, bytes], roles: Roles) -> bool:
        """Whether a request that changes something is admitted to a route for `roles`."""
        try:
            ASKER.set(self.check(headers, roles, changes=True).name)
        except Refused:
            return False
        return True

    def check(self, headers: Mapping[bytes, bytes], roles: Roles, *, changes: bool) -> Bearer:
        """Admit a request to a route for `roles`: whose it is. Header names are in lower case.

        Raises:
            Refused: it may not ask; nothing of it was read but its headers.
        """
        host = headers.get(b"host")
        if host is not None and not self._is_host(host):
            raise Refused(Refusal.FOREIGN_HOST, "use an address, or add the host to QS_STACK_HOSTS")
        origin = headers.get(b"origin")
        if origin is not None:
            if not self._is_own_origin(origin, host):
                raise Refused(Refusal.CROSS_SITE, "the request comes from a page of another origin")
        elif changes and headers.get(b"sec-fetch-site", b"none") not in _OWN_SITE:
            raise Refused(Refusal.CROSS_SITE, "the request comes from a page of another site")
        kind = headers.get(b"content-type", _JSON)
        if kind != _JSON and changes and kind.lower().startswith(_FORMS):
            raise Refused(Refusal.FORM_BODY, "send it with Content-Type: application/json")
        if self.tokens is not None and roles != ANYONE:
            bearer = self.bearer(headers)
            if not bearer.roles:
                raise Refused(Refusal.UNAUTHENTICATED, "send one as Authorization: Bearer")
            if not bearer.roles & roles:
                raise Refused(Refusal.FORBIDDEN, f"it requires the role {' or '.join(sorted(roles)) or 'of nobody'}")
            if changes and bearer.rate is not None and not bearer.rate.take(time.monotonic()):
                raise Refused(
                    Refusal.TOO_OFTEN, "the token's rate is used up for now", retry_after=bearer.rate.retry_after()
                )
            return bearer
        return UNRESTRICTED

    def roles_of(self, headers: Mapping[bytes, bytes]) -> Roles:
        """The roles of what a request shows: its token, or a page's session. All of them if tokens are off."""
        return self.bearer(headers).roles

    def bearer(self, headers: Mapping[bytes, bytes]) -> Bearer:
        """Who shows its token, or a page's session, with a request; `UNRESTRICTED` if tokens are off."""
        if self.tokens is None:
            return UNRESTRICTED
        authorization = headers.get(b"authorization")
        if authorization is not None:
            return self.tokens.bearer(authorization[7:]) if authorization[:7].lower() == b"bearer " else STRANGER
        cookie = headers.get(b"cookie")
        if cookie is not None and any(self.tokens.is_valid_session(session) for session in _sessions(cookie)):
            return PAGE
        return STRANGER

    async def guard(self, connection: ASGIConnection, handler: BaseRouteHandler) -> None:  # type: ignore[type-arg] # any
        """Admit a request to one of the app's routes.

        Raises:
            Refused: it may not ask.
            WebSocketException: it may not open this websocket.
        """
        scope = connection.scope
        changes = scope.get("method", "GET") not in _READING
        roles = handler.opt.get("roles", NOBODY if changes else READ)
        headers = dict(scope["headers"])
        try:
            bearer = self.check(headers, roles, changes=changes)
            ASKER.set(bearer.name if changes else "")
        except Refused as refused:
            DENIED.labels(refused.refusal.slug).inc()
            if scope["type"] == ScopeType.WEBSOCKET:
                raise WebSocketException(detail=refused.refusal.title, code=_POLICY_VIOLATION) from refused
            raise

    def _is_own_host(self, host: bytes) -> bool:
        name = _name(host)
        return name in self._hosts or _is_address(name)

    def _is_own_origin(self, origin: bytes, host: bytes | None) -> bool:
        if origin in self._origins:
            return True
        return host is not None and origin in (b"http://" + host, b"https://" + host)


OPEN = Access()
"""Asks for no token."""


def _name(host: bytes) -> str:
    """The host of a `Host` header, without its port; empty if it makes no sense."""
    try:
        return urlsplit(b"//" + host).hostname.decode("ascii").rstrip(".")  # type: ignore[union-attr] # caught
    except (ValueError, AttributeError):
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _sessions(cookie: bytes) -> list[str]:
    """What our cookie holds, wherever it stands among those of other programs on the same host, odd as they may be.

    Another one of the same name, as for another path, does not hide it.
    """
    found = []
    for part in cookie.split(b";"):
        name, _, value = part.partition(b"=")
        if name.strip() == _COOKIE:
            found.append(value.strip().strip(b'"').decode("latin-1"))
    return found[:_MAX_SESSIONS]
