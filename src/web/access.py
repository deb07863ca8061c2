"""HTTP access control: where a request may come from, and which roles its token has.

A page of another site, open in a browser on this machine, can send requests to every local port. So a request

- must address the service by an IP address, by `localhost` or by a configured name. Otherwise another site could make
  its name resolve to this machine (DNS rebinding), and its page would pass for ours;
- must come from our own page, or from no page: browsers name the page's origin in `Origin`;
- must not change anything with a body of a type that HTML forms send.

If tokens are on, it must also have a token with a role that the route permits. While tokens are off, all checks
together take well below a microsecond, so that even the busiest route is checked.
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
"""How many cookies of that name are checked. Each check costs a digest."""

UNRESTRICTED = Bearer(ANYONE, "")
PAGE = Bearer(frozenset({Role.READER}), "page")

ASKER: ContextVar[str] = ContextVar("asker", default="")
"""The name of the current request's token; empty without a token, and for a request that only reads."""

DENIED = Counter("quotestream_http_denied", "Requests that were refused access, by reason.", ["reason"])


def current_asker() -> str | None:
    """Return the digest that logs store for the current request's client; None if it has no token."""
    name = ASKER.get()
    return ids.asker(f"token {name}") if name else None


_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_JSON = b"application/json"
_FORMS = (b"application/x-www-form-urlencoded", b"multipart/form-data", b"text/plain")
_OWN_SITE = frozenset({b"same-origin", b"none"})
_POLICY_VIOLATION = 1008


class Access:
    """The access rules of one service.

    Args:
        tokens: the tokens and their roles; None if requests need no token.
        hosts: further host names of the service; `localhost` and IP addresses are always accepted.
        origins: further origins whose pages may send requests, such as `https://desk.example`.
    """

    def __init__(self, tokens: Tokens | None = None, hosts: Sequence[str] = (), origins: Sequence[str] = ()) -> None:
        self.tokens = tokens
        self._hosts = frozenset({"localhost", *(host.lower() for host in hosts)})
        self._origins = frozenset(origin.encode() for origin in origins)
        self._is_host = lru_cache(maxsize=256)(self._is_own_host)

    @classmethod
    def of(cls, stack: Stack) -> Self:
        """Return the rules that the settings describe.

        Raises:
            SettingsError: the folder of tokens is invalid.
        """
        try:
            tokens = Tokens(Path(stack.tokens)) if stack.tokens else None
        except TokensError as error:
            raise SettingsError(f"QS_STACK_TOKENS: {error}") from error
        return cls(tokens, [stack.host, *split_list(stack.hosts)], split_list(stack.origins))

    def use_clock(self, clock: Clock) -> None:
        """Let tokens expire by the clock that the service decides by, even if the machine's clock is wrong."""
        if self.tokens is not None:
            self.tokens.clock = clock

    def admits(self, headers: Mapping[bytes, bytes], roles: Roles) -> bool:
        """True if a request that changes something may use a route for `roles`. Also set `ASKER`."""
        try:
            ASKER.set(self.check(headers, roles, changes=True).name)
        except Refused:
            return False
        return True

    def check(self, headers: Mapping[bytes, bytes], roles: Roles, *, changes: bool) -> Bearer:
        """Check that a request may use a route for `roles`, and return its bearer. Header names are in lower case.

        Raises:
            Refused: it may not. Only its headers have been read.
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
                needed = f"it requires the role {' or '.join(sorted(roles))}" if roles else "no role permits it"
                raise Refused(Refusal.FORBIDDEN, needed)
            if changes and bearer.rate is not None and not bearer.rate.take(time.monotonic()):
                raise Refused(
                    Refusal.TOO_OFTEN, "the token's rate is used up for now", retry_after=bearer.rate.retry_after()
                )
            return bearer
        return UNRESTRICTED

    def roles_of(self, headers: Mapping[bytes, bytes]) -> Roles:
        """Return the roles of a request's token or page session; all roles if tokens are off."""
        return self.bearer(headers).roles

    def bearer(self, headers: Mapping[bytes, bytes]) -> Bearer:
        """Return the bearer of a request's token or page session; `UNRESTRICTED` if tokens are off."""
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
        """Check that a request may use a route of the app.

        Raises:
            Refused: it may not use the route.
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
"""Access without tokens."""


def _name(host: bytes) -> str:
    """Return the host of a `Host` header, without its port; empty if it is invalid."""
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
    """Return the values of our cookie, ignoring the cookies of other programs on the same host, however malformed.

    There may be several of the same name, for example for other paths.
    """
    found = []
    for part in cookie.split(b";"):
        name, _, value = part.partition(b"=")
        if name.strip() == _COOKIE:
            found.append(value.strip().strip(b'"').decode("latin-1"))
    return found[:_MAX_SESSIONS]
