"""The private names of libraries that we use are listed in CONTRIBUTING.md, pinned, and as they were when tried.

A library may change any of them in any release. Then one of these tests fails, rather than a service.
"""

import ast
import inspect
import re
import tomllib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiosqlite
import nats.aio.client
import nats.aio.subscription
import nats.aio.transport
import pytest

from jet import link

ROOT = Path(__file__).parents[2]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
DEPENDENCIES = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]

SIGNATURES: list[tuple[Callable[..., Any], str]] = [
    (aiosqlite.Connection._execute, "(self, fn, *args, **kwargs)"),
    (nats.aio.client.Client._process_info, "(self, info, initial_connection)"),
    (nats.aio.client.Client._process_pong, "(self)"),
    (nats.aio.client.Client._process_msg, "(self, sid, subject, reply, data, headers)"),
    (nats.aio.client.Client._process_ping, "(self)"),
    (nats.aio.client.Client._process_err, "(self, err_msg)"),
    (nats.aio.client.Client._remove_sub, "(self, sid, max_msgs)"),
]

ATTRIBUTES: list[tuple[type, set[str]]] = [
    (aiosqlite.Connection, {"_conn"}),
    (nats.aio.client.Client, {"_ps", "_transport", "_server_info", "_current_server", "_pongs", "_subs"}),
    (nats.aio.transport.TcpTransport, {"_io_reader", "_io_writer", "_bare_io_reader", "_bare_io_writer"}),
    (nats.aio.subscription.Subscription, {"_id"}),
]


def listed() -> dict[str, set[str]]:
    """Return the private names in the table, by library."""
    table = CONTRIBUTING[CONTRIBUTING.index("| library, tried version |") :].split("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    return {row[0]: set(re.findall(r"`(_\w+)`", row[1])) for row in rows}


@pytest.mark.parametrize(("called", "signature"), SIGNATURES, ids=lambda each: getattr(each, "__qualname__", ""))
def test_the_functions_that_we_call_have_the_same_parameters(called: Callable[..., Any], signature: str) -> None:
    kinds = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    found = [kinds.get(each.kind, "") + name for name, each in inspect.signature(called).parameters.items()]
    assert f"({', '.join(found)})" == signature


@pytest.mark.parametrize(("kind", "names"), ATTRIBUTES, ids=lambda each: getattr(each, "__name__", ""))
def test_the_attributes_that_we_use_exist(kind: type, names: set[str]) -> None:
    kept = {
        node.attr
        for node in ast.walk(ast.parse(inspect.getsource(inspect.getmodule(kind))))  # type: ignore[arg-type]
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    }
    assert names <= kept


def test_the_table_lists_every_name_and_the_tried_versions() -> None:
    tried = {f"{name} {version(name)}" for name in ("aiosqlite", "nats-py")}
    assert set(listed()) == tried
    names = {called.__name__ for called, _ in SIGNATURES}.union(*(names for _, names in ATTRIBUTES))
    assert set().union(*listed().values()) == names


def test_no_other_private_name_is_used() -> None:
    """Each use of another library's private name has an ignore on its line; only `jet.link` inherits their classes."""
    lines = [
        line
        for path in (ROOT / "src").rglob("*.py")
        if "simulation" not in path.parts  # which stands in for the libraries
        for line in path.read_text().splitlines()
        if "SLF001" in line
    ]
    used = {name for line in lines for name in re.findall(r"(?<!self)\.(_[a-z]\w*)", line.split("#")[0])}
    inherited = {
        node.attr
        for node in ast.walk(ast.parse(inspect.getsource(link)))
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
    }
    ours = {"_ended", "_has_info", "_read_answer", "_connection"}
    names = set().union(*listed().values())
    assert used <= names
    assert inherited - ours <= names
    assert names <= used | inherited


def test_each_library_has_an_upper_bound() -> None:
    pins = [pin for pin in DEPENDENCIES if re.match(r"(aiosqlite|nats-py)\b", pin)]
    assert len(pins) == len(listed())
    assert all(",<" in pin for pin in pins)
