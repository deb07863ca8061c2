"""The OpenAPI documents: valid, and complete enough to write a client from."""

import json
import re
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
from web.openapi import Samples
from wire.samples import SAMPLES

PROTOCOL = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()


def document_of(service: Any, samples: Samples) -> dict[str, Any]:
    routes = service.routes(MagicMock())
    app = create_app(title="t", description="d", health=Health("t"), routes=routes, samples=samples)
    return app.openapi_schema.to_schema()


DOCUMENTS = {
    "exchange": document_of(exchange.api, {}),
    "exposure": document_of(exposure.api, {}),
    "ledger": document_of(ledger.api, {}),
    "maker": document_of(maker.api, maker.api.SAMPLES),
    "ui": document_of(ui.api, {}),
}


def operations() -> list[Any]:
    return [
        pytest.param(operation, id=f"{service} {verb} {path}")
        for service, document in DOCUMENTS.items()
        for path, verbs in document["paths"].items()
        for verb, operation in verbs.items()
    ]


@pytest.mark.parametrize("service", DOCUMENTS)
def test_a_document_is_valid(service: str) -> None:
    openapi_spec_validator.validate(DOCUMENTS[service])


@pytest.mark.parametrize("operation", operations())
def test_a_route_says_what_it_does_what_its_path_holds_and_what_each_answer_is(operation: Any) -> None:
    assert operation["summary"]
    for parameter in operation.get("parameters", ()):
        assert parameter["description"]
        assert parameter["examples"]
    for answer in operation["responses"].values():
        if "application/json" in answer.get("content", {}) or "application/problem+json" in answer.get("content", {}):
            assert answer["description"] not in {status.description for status in HTTPStatus}


@pytest.mark.parametrize("operation", operations())
def test_every_body_has_a_sample(operation: Any) -> None:
    answers = [answer.get("content", {}) for answer in operation["responses"].values()]
    contents = [*answers, operation.get("requestBody", {}).get("content", {})]
    schemas = [content[kind]["schema"] for content in contents for kind in content if kind.endswith("json")]
    named = {schema.get("items", schema)["$ref"].rpartition("/")[2] for schema in schemas}
    for name in named:
        for document in DOCUMENTS.values():
            if schema := document["components"]["schemas"].get(name):
                assert schema["description"]
                assert schema["examples"][0].keys() <= schema["properties"].keys()


@pytest.mark.parametrize("kind", [*SAMPLES, *maker.api.SAMPLES], ids=lambda kind: kind.__name__)
def test_a_sample_is_the_protocols_first_example(kind: type[msgspec.Struct]) -> None:
    pattern = rf"^<!-- example: {kind.__name__} -->\n```json\n(.*?)^```$"
    example = re.search(pattern, PROTOCOL, flags=re.MULTILINE | re.DOTALL)
    assert example is not None
    assert json.loads({**SAMPLES, **maker.api.SAMPLES}[kind]) == json.loads(example[1])


def test_whatever_waits_for_a_decision_may_be_answered_503() -> None:
    for service, document in DOCUMENTS.items():
        for path, verbs in document["paths"].items():
            for verb in verbs.keys() - {"get"}:
                assert path == "/resume" or "503" in verbs[verb]["responses"], f"{service} {verb} {path}"


def test_health_tells_of_both_its_answers() -> None:
    for document in DOCUMENTS.values():
        assert document["paths"]["/health"]["get"]["responses"].keys() == {"200", "503"}
