"""The OpenAPI documents: valid, and complete enough to write a client from."""

import json
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import msgspec
import openapi_spec_validator
import pytest

import exchange.api
import exposure.api
import ledger.api
import maker.api
import ui.api
from process.health import Health
from web.app import create_app
from wire.samples import SAMPLES

PROTOCOL = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()


SERVICES = {
    "exchange": (exchange.api, {}),
    "exposure": (exposure.api, {}),
    "ledger": (ledger.api, {}),
    "maker": (maker.api, maker.api.SAMPLES),
    "ui": (ui.api, {}),
}


@pytest.fixture(scope="module", params=SERVICES)
def document(request: pytest.FixtureRequest) -> Any:
    """The OpenAPI document of a service."""
    service, samples = SERVICES[request.param]
    routes = service.routes(MagicMock())
    app = create_app(title="t", description="d", health=Health("t"), routes=routes, samples=samples)
    return app.openapi_schema.to_schema()


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield each path and verb, with its description."""
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            yield path, verb, operation


def json_of(contents: dict[str, Any]) -> list[Any]:
    """Return the JSON contents of a body or response."""
    return [content for kind, content in contents.items() if kind.endswith("json")]


def test_a_document_is_valid(document: Any) -> None:
    openapi_spec_validator.validate(document)


def test_a_route_describes_itself_its_parameters_and_its_responses(document: Any) -> None:
    phrases = {status.description for status in HTTPStatus}
    for path, verb, operation in operations(document):
        assert operation["summary"], (verb, path)
        for parameter in operation.get("parameters", ()):
            assert parameter["description"], (verb, path)
            assert parameter["examples"], (verb, path)
        for status, response in operation["responses"].items():
            assert not json_of(response.get("content", {})) or response["description"] not in phrases, (
                verb,
                path,
                status,
            )


def test_every_body_has_a_sample(document: Any) -> None:
    for path, verb, operation in operations(document):
        bodies = [response.get("content", {}) for response in operation["responses"].values()]
        bodies.append(operation.get("requestBody", {}).get("content", {}))
        for content in (content for body in bodies for content in json_of(body)):
            name = content["schema"].get("items", content["schema"])["$ref"].rpartition("/")[2]
            schema = document["components"]["schemas"][name]
            assert schema["description"], (verb, path, name)
            assert schema["examples"][0].keys() <= schema["properties"].keys(), (verb, path, name)


@pytest.mark.parametrize("kind", [*SAMPLES, *maker.api.SAMPLES], ids=lambda kind: kind.__name__)
def test_a_sample_is_the_protocols_first_example(kind: type[msgspec.Struct]) -> None:
    pattern = rf"^<!-- example: {kind.__name__} -->\n```json\n(.*?)^```$"
    example = re.search(pattern, PROTOCOL, flags=re.MULTILINE | re.DOTALL)
    assert example is not None
    assert json.loads({**SAMPLES, **maker.api.SAMPLES}[kind]) == json.loads(example[1])


def test_every_route_that_waits_for_a_decision_may_return_503(document: Any) -> None:
    for path, verb, operation in operations(document):
        assert verb == "get" or path == "/resume" or "503" in operation["responses"], (verb, path)


def test_health_describes_both_of_its_responses(document: Any) -> None:
    assert document["paths"]["/health"]["get"]["responses"].keys() == {"200", "503"}
