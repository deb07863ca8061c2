"""Access control: where a request may come from, and what its token permits. By the rules, and through the app."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar.handlers import HTTPRouteHandler

import exchange.api
import exposure.api
import ledger.api
import maker.api
import ui.api
from process.health import Health
from process.settings import Stack
from support.access import auth_headers, token_folder, token_of, write_tokens
from support.http import http_client
from web.access import COOKIE, Access
from web.app import create_app
from web.roles import ANYONE, READ, Role
from web.tokens import Tokens
from wire.errors import Refusal, Refused

Headers = dict[bytes, bytes]


def refusal(access: Access, headers: Headers, *, changes: bool = True, roles: frozenset[Role] = ANYONE) -> str | None:
    """Return the slug of the refusal; None if the request is admitted."""
    try:
        access.check(headers, roles, changes=changes)
    except Refused as refused:
        return refused.refusal.slug
    return None


@pytest.mark.parametrize(
    "host",
    [b"127.0.0.1:8001", b"localhost:8001", b"LOCALHOST", b"localhost.", b"[::1]:8001", b"10.1.2.3", b"desk.example:1"],
)
def test_a_service_is_addressed_by_ip_localhost_or_a_configured_name(host: bytes) -> None:
    assert refusal(Access(hosts=["Desk.example"]), {b"host": host}, changes=False) is None


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example:8001",
        b"localhost.evil.example",
        b"127.0.0.1.evil.example",
        b"a@localhost@b",
        b"",
        b"[::1",
        b"\xff",
    ],
)
def test_any_other_host_name_is_refused(host: bytes) -> None:
    """A site whose name resolves to this machine sends such requests (DNS rebinding)."""
    access = Access()
    assert refusal(access, {b"host": host}, changes=False) == "foreign-host"
    assert not access.admits({b"host": host}, ANYONE)


HERE = {b"host": b"127.0.0.1:8001"}


@pytest.mark.parametrize(
    ("headers", "changes", "slug"),
    [
        ({b"origin": b"http://127.0.0.1:8001"}, True, None),
        ({b"origin": b"https://desk.example"}, True, None),
        ({b"origin": b"http://127.0.0.1:3000"}, True, "cross-site"),
        ({b"origin": b"http://127.0.0.1:3000"}, False, "cross-site"),
        ({b"origin": b"null"}, True, "cross-site"),
        ({b"origin": b"http://[::1"}, True, "cross-site"),
        ({b"sec-fetch-site": b"same-origin"}, True, None),
        ({b"sec-fetch-site": b"none"}, True, None),
        ({b"sec-fetch-site": b"same-site"}, True, "cross-site"),
        ({b"sec-fetch-site": b"cross-site"}, True, "cross-site"),
        ({b"sec-fetch-site": b"cross-site"}, False, None),
        ({b"content-type": b"application/json; charset=utf-8"}, True, None),
        ({b"content-type": b"application/octet-stream"}, True, None),
        ({b"content-type": b"text/plain;charset=UTF-8"}, True, "form-body"),
        ({b"content-type": b"application/X-www-form-urlencoded"}, True, "form-body"),
        ({b"content-type": b"multipart/form-data; boundary=x"}, True, "form-body"),
    ],
)
def test_a_page_of_another_site_cannot_change_anything(headers: Headers, changes: bool, slug: str | None) -> None:
    access = Access(origins=["https://desk.example"])
    assert refusal(access, HERE | headers, changes=changes) == slug
    if changes:
        assert access.admits(HERE | headers, ANYONE) == (slug is None)


# --- tokens, on every route of every service --------------------------------------------------------------------------

SERVICES: dict[str, Any] = {
    "exchange": exchange.api,
    "ledger": ledger.api,
    "exposure": exposure.api,
    "maker": maker.api,
    "ui": ui.api,
}


class Away:
    """A service that refuses every request."""

    def __getattr__(self, name: str) -> None:
        raise Refused(Refusal.UNAVAILABLE)


MAY = {
    "POST /orders": {Role.TRADER},
    "PUT /quotes/{symbol:str}": {Role.MAKER},
    "DELETE /quotes/{symbol:str}": {Role.MAKER, Role.OPERATOR},
    "GET /instruments": {*READ, Role.TRADER},
    "GET /instruments/{symbol:str}": {*READ, Role.TRADER},
    "PUT /instruments/{symbol:str}": {Role.OPERATOR},
    "PUT /references": {Role.FEED, Role.OPERATOR},
    "GET /quotes": {*READ, Role.TRADER},
    "GET /quotes/{symbol:str}": {*READ, Role.TRADER},
    "POST /fills": {Role.EXCHANGE},
    "POST /reservations": {Role.MAKER},
    "POST /reservations/{reservation_id:str}/release": {Role.MAKER},
    "POST /reservations/{reservation_id:str}/apply-fill": {Role.EXCHANGE},
    "POST /pause": {Role.OPERATOR},
    "POST /resume": {Role.OPERATOR},
}
"""All other routes permit the roles of `READ`."""


@pytest.fixture
def guarded(tmp_path: Any) -> Access:
    return Access(Tokens(token_folder(tmp_path / "tokens")))


@pytest.mark.parametrize("service", SERVICES)
async def test_each_route_permits_its_roles_only_and_requires_a_token(service: str, guarded: Access) -> None:
    routes = SERVICES[service].routes(Away())
    app = create_app(title="t", description="", health=Health("t"), access=guarded, routes=routes)
    requests = [("GET", "/metrics", READ)]
    for handler in routes:
        if isinstance(handler, HTTPRouteHandler):
            (method,), (path,) = sorted(handler.http_methods), sorted(handler.paths)
            requests.append((method, path, frozenset(MAY.get(f"{method} {path}", READ))))
    async with http_client(app) as client:
        for method, path, may in requests:
            path = path.replace("{symbol:str}", "AAPL").replace(":str", "")  # noqa: PLW2901 # as a client writes it
            bare = await client.request(method, path)
            assert (bare.status_code, bare.headers["www-authenticate"]) == (401, "Bearer"), path
            for wrong in ("Bearer", "Bearer x", "Basic x", "Bearer \xe4"):
                answer = await client.request(method, path, headers=[(b"authorization", wrong.encode("latin-1"))])
                assert answer.status_code == 401
            for role in Role:
                status = (await client.request(method, path, headers=auth_headers(role))).status_code
                assert (status not in (401, 403)) == (role in may), f"{role} {method} {path}: {status}"


def test_a_token_over_its_rate_is_refused_with_a_retry_after_and_others_are_not(tmp_path: Path) -> None:
    folder = token_folder(tmp_path / "rated")
    write_tokens(folder, Role.TRADER, f"{token_of(Role.TRADER)} name=alice rate=2")
    access = Access(Tokens(folder))

    def asks(role: Role, *, changes: bool = True) -> Refused | None:
        headers = HERE | {b"authorization": f"Bearer {token_of(role)}".encode()}
        try:
            access.check(headers, frozenset({role}), changes=changes)
        except Refused as refused:
            return refused
        return None

    assert [asks(Role.TRADER) for _ in range(2)] == [None, None]
    refused = asks(Role.TRADER)
    assert refused is not None
    assert (refused.refusal, refused.retry_after) == (Refusal.TOO_OFTEN, 1)
    assert asks(Role.TRADER, changes=False) is None, "requests that only read are not counted"
    assert asks(Role.MAKER) is None


async def test_without_a_token_health_hides_what_the_service_waits_for(guarded: Access) -> None:
    app = create_app(title="t", description="", health=Health("t", "nats"), access=guarded, routes=[])
    async with http_client(app) as client:
        bare = await client.get("/health")
        full = await client.get("/health", headers=auth_headers(Role.READER))
    assert (bare.status_code, bare.json()["ready"], bare.json()["waiting_for"]) == (503, False, [])
    assert full.json()["waiting_for"] == [{"name": "nats", "reason": "starting"}]


async def test_the_openapi_page_needs_no_token_declares_tokens_and_loads_only_local_files(guarded: Access) -> None:
    app = create_app(title="t", description="", health=Health("t"), access=guarded, routes=[])
    async with http_client(app) as client:
        page = await client.get("/schema")
        document = (await client.get("/schema/openapi.json")).json()
        style = await client.get("/schema-assets/swagger-ui.css")
    assert (page.status_code, style.status_code) == (200, 200)
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert style.headers["x-content-type-options"] == "nosniff"
    assert document["security"] == [{"token": []}]
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert "HealthReport" in document["components"]["schemas"]


def test_an_error_in_the_folder_of_tokens_names_the_variable() -> None:
    with pytest.raises(Exception, match=r"^QS_STACK_TOKENS: nowhere: no such folder$"):
        Access.of(Stack(tokens="nowhere"))


async def test_a_page_of_another_site_cannot_read_anything() -> None:
    app = create_app(title="t", description="", health=Health("t"), routes=[])
    async with http_client(app) as client:
        answers: list[httpx.Response] = [
            await client.get("/metrics", headers={"Origin": "http://evil.example"}),
            await client.get("/health", headers={"Host": "evil.example"}),
        ]
        counted = (await client.get("/metrics")).text
    assert [answer.status_code for answer in answers] == [403, 421]
    for reason in ("cross-site", "foreign-host"):
        assert f'quotestream_http_denied_total{{reason="{reason}"}}' in counted


@pytest.mark.parametrize(
    "others",
    [
        'settings={"dark": true, "rows": [1, 2]}',
        "flag",
        "=",
        "",
        "a[1]=2",
        "name with blanks=value with blanks",
        "city=Zürich; straße=1",
        "quotestream-reader=another",
        'quoted="a b"',
        'open="',
        "bad=\x7f",
        "a=b; ; c",
    ],
)
@pytest.mark.parametrize("order", ["{0}; {1}", "{1}; {0}", "{1};{0};{1}"])
def test_our_cookie_is_found_among_those_of_others(guarded: Access, others: str, order: str) -> None:
    tokens = guarded.tokens
    assert tokens is not None
    session = tokens.new_session(token_of(Role.READER).encode())
    shows = order.format(f"{COOKIE}={session}", others).encode("utf-8")
    assert guarded.roles_of({b"cookie": shows}) == {Role.READER}
    assert guarded.roles_of({b"cookie": shows.replace(session.encode(), session[::-1].encode())}) == set()
    assert guarded.roles_of({b"cookie": shows.replace(COOKIE.encode(), b"x" + COOKIE.encode())}) == set()
