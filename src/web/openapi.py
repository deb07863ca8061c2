"""Additions to the OpenAPI document of a service, beyond what its routes declare: descriptions and samples of messages,
and descriptions of responses and parameters."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from http import HTTPStatus
from typing import Any

import msgspec
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import (
    Components,
    Example,
    OpenAPI,
    Operation,
    Parameter,
    Reference,
    Schema,
    SecurityScheme,
)
from litestar.openapi.spec.response import OpenAPIResponse

from process.health import HealthReport
from wire.samples import SAMPLES

Samples = Mapping[type[msgspec.Struct], str]
"""A sample of each type of message, as JSON."""

_HEALTH: Samples = {
    HealthReport: (
        '{"service":"exchange","live":true,"ready":false,'
        '"waiting_for":[{"name":"nats","reason":"disconnected from nats://127.0.0.1:4222"}],"quarantined":0}'
    )
}

_PARAMETERS = {
    "symbol": ("A symbol: 1 to 32 letters, digits, `_` or `-`.", "AAPL"),
    "reservation_id": ("A reservation's id: the id of its quote, with `-r`.", "AAPL-v98-r9-a1-r"),
    "quote_id": ("A quote's id.", "AAPL-v98-r9-a1"),
    "after": (
        "Where the page begins, from the link in the previous page.",
        "2026-11-23T05:49:23.933201+00:00,AAPL-v98-r9-a1-r",
    ),
    "If-Match": ("The `ETag` of the instrument when it was read.", '"57"'),
    "as_of": ("A time, with its time zone; for one position also a version.", "2026-11-23T16:00:00Z"),
}
"""The description and an example of each parameter of our routes."""

_DEFAULT_DESCRIPTIONS = {status.description for status in HTTPStatus}
"""The default descriptions of responses, for routes that do not describe them."""


@dataclass
class CompleteConfig(OpenAPIConfig):
    """Creates documents with our additions.

    Attributes:
        samples: samples of the service's own messages, beside those that several services share.
    """

    samples: Samples = field(default_factory=dict)

    def to_openapi_schema(self) -> OpenAPI:
        """Return the document; Litestar adds the routes to it later."""
        begun = super().to_openapi_schema()
        document = _Document(**{part.name: getattr(begun, part.name) for part in fields(begun)})
        document.samples = {**SAMPLES, **_HEALTH, **self.samples}
        return document


class _Document(OpenAPI):
    """Completed when it is first requested, so that no start waits for it."""

    samples: Samples

    def to_schema(self) -> dict[str, Any]:
        _complete(self, self.samples)
        return super().to_schema()


def security(*, on: bool) -> dict[str, Any]:
    """Return the document's security scheme for tokens; empty if they are off."""
    if not on:
        return {}
    scheme = SecurityScheme(type="http", scheme="bearer", description="A token with a role that the route permits.")
    return {"components": Components(security_schemes={"token": scheme}), "security": [{"token": []}]}


def _complete(document: OpenAPI, samples: Samples) -> None:
    for kind, sample in samples.items():
        schema = document.components.schemas.get(kind.__name__)
        if schema is not None:
            schema.description = inspect.getdoc(kind)
            schema.examples = [msgspec.json.decode(sample)]
    for schema in document.components.schemas.values():
        for property_ in (schema.properties or {}).values():
            if isinstance(property_, Schema) and isinstance(property_.default, Decimal):
                property_.default = str(property_.default)  # as it is written
    for operation in _operations(document):
        for parameter in operation.parameters or ():
            if isinstance(parameter, Parameter):
                parameter.description, example = _PARAMETERS[parameter.name]
                parameter.examples = {parameter.name: Example(value=example)}
        for response in (operation.responses or {}).values():
            if isinstance(response, OpenAPIResponse) and response.description in _DEFAULT_DESCRIPTIONS:
                response.description = _description(response, document.components) or response.description


def _operations(document: OpenAPI) -> Iterator[Operation]:
    for path in (document.paths or {}).values():
        for operation in (path.get, path.put, path.post, path.delete):
            if operation is not None:
                yield operation


def _description(response: OpenAPIResponse, components: Components) -> str:
    """Describe a response by the first line of its message's description."""
    for content in (response.content or {}).values():
        schema = content.schema
        every = "Of each: " if isinstance(schema, Schema) and schema.items else ""
        if isinstance(schema, Schema) and isinstance(schema.items, Reference):
            schema = schema.items
        if isinstance(schema, Reference):
            named = components.schemas[schema.ref.rpartition("/")[2]]
            return every + (named.description or "").partition("\n")[0]
    return ""
