"""What the OpenAPI document of a service says beyond what its routes declare: what each message is, with a sample, what
each answer is, and what the parts of a path are."""

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
"""A sample of each kind of message, as JSON."""

_HEALTH: Samples = {
    HealthReport: (
        '{"service":"exchange","live":true,"ready":false,'
        '"waiting_for":[{"name":"nats","reason":"disconnected from nats://127.0.0.1:4222"}],"quarantined":0}'
    )
}

_IN_ADDRESSES = {
    "symbol": ("A symbol of the market file: 1 to 32 letters, digits, `_` or `-`.", "AAPL"),
    "reservation_id": ("A reservation's id: its quote's, and `-r`.", "AAPL-v98-r9-a1-r"),
    "quote_id": ("A quote's id.", "AAPL-v98-r9-a1"),
    "after": ("Where a page goes on, as the one before it tells.", "2026-11-23T05:49:23.933201+00:00,AAPL-v98-r9-a1-r"),
    "If-Match": ("The `ETag` of the instrument as it was read.", '"57"'),
    "as_of": ("A time, with its zone; for one position also a version.", "2026-11-23T16:00:00Z"),
}
"""What the parts of our paths and queries are, each with an example."""

_SAYS_NOTHING = {status.description for status in HTTPStatus}
"""How an answer is described whose route does not describe it."""


@dataclass
class CompleteConfig(OpenAPIConfig):
    """Makes documents that complete themselves.

    Attributes:
        samples: of the service's own messages, beside those that several services have.
    """

    samples: Samples = field(default_factory=dict)

    def to_openapi_schema(self) -> OpenAPI:
        """The document, as far as it is known before its routes are."""
        begun = super().to_openapi_schema()
        document = _Document(**{part.name: getattr(begun, part.name) for part in fields(begun)})
        document.samples = {**SAMPLES, **_HEALTH, **self.samples}
        return document


class _Document(OpenAPI):
    """Completed when somebody asks for it: making one takes a moment that no start has to wait for."""

    samples: Samples

    def to_schema(self) -> dict[str, Any]:
        _complete(self, self.samples)
        return super().to_schema()


def security(*, on: bool) -> dict[str, Any]:
    """What a document says of tokens: nothing if they are off."""
    if not on:
        return {}
    scheme = SecurityScheme(type="http", scheme="bearer", description="A token with a role that the route is for.")
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
                parameter.description, example = _IN_ADDRESSES[parameter.name]
                parameter.examples = {parameter.name: Example(value=example)}
        for response in (operation.responses or {}).values():
            if isinstance(response, OpenAPIResponse) and response.description in _SAYS_NOTHING:
                response.description = _of(response, document.components) or response.description


def _operations(document: OpenAPI) -> Iterator[Operation]:
    for path in (document.paths or {}).values():
        for operation in (path.get, path.put, path.post, path.delete):
            if operation is not None:
                yield operation


def _of(response: OpenAPIResponse, components: Components) -> str:
    """What the message is that a response has: the first sentence of its schema."""
    for content in (response.content or {}).values():
        schema = content.schema
        every = "Of each: " if isinstance(schema, Schema) and schema.items else ""
        if isinstance(schema, Schema) and isinstance(schema.items, Reference):
            schema = schema.items
        if isinstance(schema, Reference):
            named = components.schemas[schema.ref.rpartition("/")[2]]
            return every + (named.description or "").partition("\n")[0]
    return ""
