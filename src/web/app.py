"""The HTTP app of a service: health, metrics, problem details, strict bodies, an OpenAPI page that works offline."""

from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec
import structlog
from litestar import Litestar, Request, Response, Router, get
from litestar.datastructures import MutableScopeHeaders, ResponseHeader, State
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.openapi.spec import Server, Tag
from litestar.static_files import create_static_files_router
from litestar.types import ControllerRouterHandler, Empty, Message, Scope
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from process import metrics
from process.health import Health, HealthReport
from web import openapi
from web.access import OPEN, Access
from web.http1 import MAX_BODY
from web.roles import READ, anyone
from wire.errors import Problem, Refusal, Refused
from wire.strict_decoder import StrictDecoder
from wire.units import FieldError

INTERNAL_ERROR = Problem(type="about:blank", title="Internal error", status=500)
_DOCS_PATH = "/schema-assets"
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

T = TypeVar("T")

log = structlog.get_logger()


class StrictRequest(Request[Any, Any, Any]):
    """Decodes a JSON body directly into the type that the handler declares.

    Litestar would first decode it into plain Python values, and convert those leniently: it would accept `"5"` for 5,
    and convert a price to a float in between.
    """

    async def json(self) -> Any:
        """Return the body as the type that the handler declares for `data`.

        Raises:
            Refused: the body is not JSON, or not of that type; `field` names the invalid field.
        """
        if self._json is Empty:
            data_field = self.route_handler.parsed_data_field
            decoder = _decoder(data_field.annotation if data_field else Any)
            self._json = decode(await self.body(), decoder)
        return self._json


@cache
def _decoder(kind: Any) -> StrictDecoder[Any]:
    """Cached, because creating a decoder takes longer than decoding."""
    return StrictDecoder(kind)


def decode(body: bytes | bytearray, decoder: StrictDecoder[T]) -> T:
    """Decode JSON strictly.

    Raises:
        Refused: BAD_REQUEST if it is not JSON, INVALID_FIELD if it is not of the decoder's type.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(Refusal.BAD_REQUEST, str(error)) from error


def check_path(value: str, kind: Any, field: str) -> str:
    """Check a path or query parameter against an annotated string type, and return it.

    Raises:
        Refused: INVALID_FIELD naming `field`.
    """
    try:
        return str(msgspec.convert(value, kind))
    except msgspec.ValidationError as error:
        raise Refused(Refusal.INVALID_FIELD, str(error), field=field) from error


def _invalid(error: msgspec.ValidationError) -> Refused:
    if isinstance(error.__cause__, FieldError):
        return Refused(Refusal.INVALID_FIELD, str(error.__cause__), field=error.__cause__.field)
    text = str(error)
    message, found, path = text.rpartition(" - at `$")
    field = path.strip("`.") if found else _quoted(text)
    return Refused(Refusal.INVALID_FIELD, message or text, field=field or None)


def _quoted(text: str) -> str:
    """Return the missing or unknown field that msgspec quotes, as in "Object missing required field `symbol`"."""
    parts = text.split("`")
    return parts[1] if len(parts) >= 3 and "field" in text else ""


def problems(*refusals: Refusal) -> dict[int, ResponseSpec]:
    """Return the responses to these refusals, by status, for the OpenAPI page."""
    titles: dict[int, list[str]] = {}
    for refusal in refusals:
        titles.setdefault(refusal.status, []).append(f"`{refusal.slug}`: {refusal.title}.")
    return {
        status: ResponseSpec(Problem, description=" ".join(texts), media_type="application/problem+json")
        for status, texts in titles.items()
    }


def problem_response(problem: Problem, retry_after: int | None = None) -> Response[bytes]:
    """Return a problem detail as an HTTP response."""
    headers = {"Retry-After": str(retry_after)} if retry_after is not None else {}
    if problem.status == Refusal.UNAUTHENTICATED.status:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(
        msgspec.json.encode(problem), status_code=problem.status, media_type="application/problem+json", headers=headers
    )


def _on_refused(_: Request[Any, Any, Any], refused: Refused) -> Response[bytes]:
    return problem_response(refused.problem, refused.retry_after)


def _on_http_exception(_: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    detail = error.detail
    if isinstance(error, ValidationException) and error.extra:
        detail = f"{detail}: {error.extra}"
    if error.status_code == Refusal.TOO_LARGE.status:
        return problem_response(Refused(Refusal.TOO_LARGE, f"the limit is {MAX_BODY} bytes").problem)
    title = error.__class__.__name__.removesuffix("Exception")
    return problem_response(Problem(type="about:blank", title=title, status=error.status_code, detail=detail))


def _on_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    log.error("request failed", method=request.method, path=request.url.path, exc_info=error)
    return problem_response(INTERNAL_ERROR)


def _docs_assets() -> Router:
    """Serve the OpenAPI page's scripts and styles from an installed package, so that it needs no other host."""
    folder = resources.files("litestar_offline_docs") / "static"
    return create_static_files_router(path=_DOCS_PATH, directories=[str(folder)], name="docs-assets", opt=anyone())


def _docs() -> Router:
    """The router of the OpenAPI page. The page has an inline script, so its policy must permit that."""
    policy = ResponseHeader(name="Content-Security-Policy", value=_DOCS_POLICY)
    return Router("/schema", route_handlers=[], include_in_schema=False, opt=anyone(), response_headers=[policy])


async def _forbid_sniffing(message: Message, _: Scope) -> None:
    """Forbid browsers to guess the content type of a response."""
    if message["type"] == "http.response.start":
        MutableScopeHeaders.from_message(message)["x-content-type-options"] = "nosniff"


def create_app(
    *,
    title: str,
    description: str,
    health: Health,
    access: Access = OPEN,
    routes: Sequence[ControllerRouterHandler],
    before: Callable[[], None] | None = None,
    static: Sequence[ControllerRouterHandler] = (),
    samples: openapi.Samples = MappingProxyType({}),
) -> Litestar:
    """Return the app of a service.

    Args:
        title: the service's name, as its OpenAPI page shows it.
        description: what the service does.
        health: its health.
        access: its access rules.
        routes: its handlers.
        before: called before each scrape of `/metrics`, to set gauges from the service's state.
        static: handlers of static files, which the OpenAPI page omits.
        samples: samples of the service's own messages, for the OpenAPI page.
    """

    @get(
        "/health",
        summary="What the service waits for",
        tags=["service"],
        responses={503: ResponseSpec(HealthReport, description="It waits for something.", generate_examples=False)},
        opt=anyone(),
    )
    async def get_health(request: Request[Any, Any, Any]) -> Response[HealthReport]:
        report = health.report()
        if not access.roles_of(dict(request.scope["headers"])) & READ:
            report = msgspec.structs.replace(report, waiting_for=[], notices=[])
        return Response(report, status_code=200 if report.ready else 503)

    @get("/metrics", summary="Metrics for Prometheus", tags=["service"], media_type="text/plain")
    async def get_metrics() -> Response[bytes]:
        metrics.update(health)
        if before is not None:
            before()
        return Response(generate_latest(REGISTRY), headers={"content-type": CONTENT_TYPE_LATEST})

    return Litestar(
        route_handlers=[get_health, get_metrics, *routes, *static, _docs_assets()],
        request_class=StrictRequest,
        guards=[access.guard],
        state=State({"access": access}),
        before_send=[_forbid_sniffing],
        logging_config=None,
        request_max_body_size=MAX_BODY,
        exception_handlers={Refused: _on_refused, HTTPException: _on_http_exception, Exception: _on_unexpected},
        openapi_config=openapi.CompleteConfig(
            samples=samples,
            title=title,
            version="1",
            description=description,
            path="/schema",
            tags=[Tag(name="service", description="Health and metrics.")],
            servers=[Server(url="/")],
            **openapi.security(on=access.tokens is not None),
            openapi_router=_docs(),
            render_plugins=[
                SwaggerRenderPlugin(
                    js_url=f"{_DOCS_PATH}/swagger-ui-bundle.js",
                    css_url=f"{_DOCS_PATH}/swagger-ui.css",
                    standalone_preset_js_url=f"{_DOCS_PATH}/swagger-ui-standalone-preset.js",
                    path="/",
                    favicon="<link rel='icon' href='data:,'>",
                )
            ],
        ),
    )
