"""The documents match the code: the names, fields, examples, files and tests that they mention exist."""

import json
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints
from unittest.mock import MagicMock

import msgspec
import pytest
from litestar.handlers import HTTPRouteHandler, WebsocketRouteHandler

import exchange.api
import exposure.api
import exposure.projection
import ledger.api
import loadgen.history
import maker.api
import maker.status
import process.health
import ui.api
import ui.frames
import ui.history
import ui.notices
import ui.processes
import ui.trend
import ui.unquoted
import wire.definitions
import wire.errors
import wire.fields
import wire.instruments
import wire.orders
import wire.positions
import wire.processes
import wire.quotes
import wire.references
import wire.reservations
import wire.switches
from exchange import projection
from jet import journal
from jet.topology import Shape, declarations
from process.settings import Market, Stack
from wire import subjects
from wire.errors import Refusal
from wire.instruments import Instrument

ROOT = Path(__file__).parents[2]
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()

_SKIPPED = {".venv", ".git", ".tools", "data", "node_modules"}
DOCUMENTS = sorted(
    path for path in ROOT.rglob("*.md") if not any(part in _SKIPPED for part in path.relative_to(ROOT).parts)
)


def structs_of(module: types.ModuleType) -> list[type[msgspec.Struct]]:
    """Return the public structs that a module defines."""
    return [
        value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, msgspec.Struct)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    ]


MESSAGES = [
    struct
    for module in (wire.orders, wire.quotes, wire.positions, wire.reservations, wire.switches, wire.processes)
    for struct in structs_of(module)
]
SPECIFIED = {
    struct.__name__: struct
    for struct in (
        *MESSAGES,
        wire.instruments.Instrument,
        wire.instruments.ListedInstrument,
        wire.definitions.Terms,
        *structs_of(wire.references),
        wire.errors.Problem,
        *structs_of(process.health),
        *structs_of(maker.status),
        *structs_of(ui.frames),
        *structs_of(ui.history),
        *structs_of(ui.notices),
        *structs_of(ui.processes),
        *structs_of(ui.trend),
        *structs_of(ui.unquoted),
        *structs_of(loadgen.history),
    )
}


def ids_of(documents: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in documents]


# --- the protocol -----------------------------------------------------------------------------------------------------


def sections(text: str) -> dict[str, str]:
    """Return the text under each heading of any level, by heading."""
    parts = re.split(r"^#+ (.+)$", without_code(text), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def without_code(text: str) -> str:
    """Return the text without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("struct", SPECIFIED.values(), ids=SPECIFIED.keys())
def test_the_table_of_a_message_has_exactly_its_fields_and_marks_the_optional_ones(
    struct: type[msgspec.Struct],
) -> None:
    """If a message extends another one, its table has only the added fields, and links to the other's table."""
    section = sections(PROTOCOL)[struct.__name__]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", section, flags=re.MULTILINE)
    base = struct.__base__
    if base is not None and base.__name__ in SPECIFIED:
        assert f"[{base.__name__}](#{base.__name__.lower()})" in section
    inherited = set(getattr(base, "__struct_fields__", ()))
    fields = [field for field in msgspec.structs.fields(struct) if field.name not in inherited]
    tag_field = struct.__struct_config__.tag_field
    assert [name for name, _ in rows] == [*([tag_field] if tag_field else []), *(field.name for field in fields)]
    optional = {name for name, kind in rows if "optional" in kind}
    assert optional == {field.name for field in fields if not field.required}


FIELD_TYPES = {
    name: getattr(wire.fields, name)
    for name in re.findall(r"^\| ([A-Z]\w+) \|", sections(PROTOCOL)["Conventions"], flags=re.MULTILINE)
}
"""The types of fields that the document defines."""


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.__name__)
def test_the_table_of_a_message_gives_each_field_the_type_that_its_struct_has(message: type[msgspec.Struct]) -> None:
    """A field whose bounds differ from those of its documented type fails, too."""
    hints = get_type_hints(message, include_extras=True)
    rows = re.findall(r"^\| `(\w+)` \| (?:array of )?(\w*)", sections(PROTOCOL)[message.__name__], flags=re.MULTILINE)
    documented = {field: kind for field, kind in rows if kind in FIELD_TYPES}
    declared = {
        field: name
        for field, _ in rows
        for name, kind in FIELD_TYPES.items()
        if kind in (hints.get(field), *get_args(hints.get(field)))
    }
    assert documented == declared


@pytest.mark.parametrize("struct", SPECIFIED.values(), ids=SPECIFIED.keys())
def test_a_table_of_fields_names_only_types_that_the_document_defines(struct: type[msgspec.Struct]) -> None:
    rows = re.findall(r"^\| `\w+` \| (?:array of )?([A-Z]\w*)", sections(PROTOCOL)[struct.__name__], flags=re.MULTILINE)
    assert set(rows) <= FIELD_TYPES.keys()


def examples() -> Iterator[tuple[str, str]]:
    """Yield each labelled block: the type of which it is an example, and its JSON."""
    yield from re.findall(r"^<!-- example: (.+?) -->\n```json\n(.*?)^```$", PROTOCOL, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("label", "text"), list(examples()))
def test_an_example_has_the_type_of_its_label_and_omits_no_field(label: str, text: str) -> None:
    inner = label.removeprefix("list[").removesuffix("]")
    kind: Any = wire.quotes.QuoteEvent if inner == "QuoteEvent" else SPECIFIED[inner]
    if label != inner:
        kind = list[kind]
    decoded = msgspec.json.decode(text, type=kind)
    assert json.loads(msgspec.json.encode(decoded)) == json.loads(text)
    for row in getattr(decoded, "rows", ()):
        msgspec.json.decode(row, type=ui.frames.Row)


def test_every_json_block_is_labelled() -> None:
    assert PROTOCOL.count("```json") == len(list(examples()))


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.__name__)
def test_every_message_has_an_example(message: type[msgspec.Struct]) -> None:
    labels = set(re.findall(r"\w+", " ".join(label for label, _ in examples())))
    if "QuoteEvent" in labels:
        labels |= {"QuoteActivated", "QuoteWithdrawn"}
    if "Exposure" in labels:
        labels |= {"SideUsage"}
    assert message.__name__ in labels


def test_the_problem_types_are_exactly_the_refusals_with_their_status() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (\d+) \|", sections(PROTOCOL)["Problem types"], flags=re.MULTILINE)
    assert rows == [(refusal.slug, str(refusal.status)) for refusal in Refusal]


def test_the_request_subjects_are_exactly_the_declared_ones() -> None:
    declared = {value for name, value in vars(subjects.Rpc).items() if name.isupper()}
    assert set(re.findall(r"`(rpc\.[a-z.-]+)`", PROTOCOL)) == declared


def test_every_stream_is_listed_with_its_subjects() -> None:
    section = sections(PROTOCOL)["Streams and buckets"]
    for stream in declarations(Shape(shards=1, replicas=1, max_bytes=1, duplicate_window=1, reservation_life=1)):
        name = stream["name"].replace("MARKET-0", "MARKET-<shard>")
        row = next(line for line in section.splitlines() if line.startswith(f"| `{name}` |"))
        for subject in stream["subjects"]:
            prefix = subject.replace(".0.", ".<shard>.").rstrip("*>")
            assert f"`{prefix}<" in row or f"`{subject}`" in row


def test_our_own_headers_are_listed() -> None:
    for header in (journal._TOKEN, projection._SEQUENCE, exposure.projection._SEQUENCE):
        assert f"| `{header}` |" in sections(PROTOCOL)["Headers"]


def test_the_named_symbols_are_in_the_named_shards() -> None:
    found = re.search(r"With 4 shards `(\w+)` is in (\d), `(\w+)` in (\d), `(\w+)` in (\d)", PROTOCOL)
    assert found is not None
    words = found.groups()
    for symbol, shard in zip(words[::2], words[1::2], strict=True):
        assert subjects.shard_of(symbol, 4) == int(shard)


ROUTES = {
    "Exchange, port 8001": exchange.api.routes(MagicMock()),
    "Ledger, port 8002": ledger.api.routes(MagicMock()),
    "Exposure, port 8003": exposure.api.routes(MagicMock()),
    "Maker, port 8004": maker.api.routes(MagicMock()),
    "Page, port 8000": ui.api.routes(MagicMock()),
}


@pytest.mark.parametrize("heading", ROUTES)
def test_the_routes_are_exactly_the_declared_ones(heading: str) -> None:
    declared = set()
    for handler in ROUTES[heading]:
        assert isinstance(handler, HTTPRouteHandler | WebsocketRouteHandler)
        methods = handler.http_methods if isinstance(handler, HTTPRouteHandler) else ["GET"]
        declared |= {f"{method} {path.replace(':str', '')}" for path in handler.paths for method in methods}
    listed = set(re.findall(r"^- `([A-Z]+ /[^`]*)`", sections(PROTOCOL)[heading], flags=re.MULTILINE))
    assert listed - {"GET /"} == declared


@pytest.mark.parametrize(("heading", "kind"), [("[market]", Market), ("[symbols.<symbol>]", Instrument)])
def test_every_setting_that_services_share_is_listed(heading: str, kind: type[msgspec.Struct]) -> None:
    section = sections(PROTOCOL)["Settings"]
    table = section[section.index(f"| `{heading}` |") :].split("\n\n")[0]
    for field in msgspec.structs.fields(kind):
        if field.name != "symbols":
            assert f"`{field.name}`" in table
        if field.default is not msgspec.NODEFAULT:
            default = _written(field.default)
            assert f"| `{field.name}` | {default} |" in table


def _written(default: Any) -> str:
    if default is None:
        return "none"
    return f"`{default}`" if isinstance(default, str) else f"{default:g}".replace("2.14748e+09", "2147483648")


@pytest.mark.parametrize(
    ("table", "kind"), [("[market]", Market), ("[stack]", Stack), ("# One table per symbol", Instrument)]
)
def test_the_market_file_has_every_key_with_its_default_or_in_a_comment(table: str, kind: type[msgspec.Struct]) -> None:
    text = (ROOT / "market.toml").read_text()
    section = text[text.index(f"\n{table}") :].split("\n[", 2)[1 if table.startswith("[") else 0]
    for field in msgspec.structs.fields(kind):
        if field.name == "symbols":
            continue
        found = re.search(rf"^(?:# |#   |)(?:\w+, )*{field.name}\b(?: = (\S+))?", section, flags=re.MULTILINE)
        assert found is not None, field.name
        if found[1] and field.name != "nats_url":
            assert str(field.default) == found[1].strip('"')


# --- what the documents refer to --------------------------------------------------------------------------------------


def slug(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids_of(DOCUMENTS))
def test_relative_links_have_a_target(document: Path) -> None:
    text = without_code(document.read_text())
    for link in re.findall(r"\]\((?!https?://)([^)\s]+)\)", text):
        file, _, anchor = link.partition("#")
        target = document.parent / file if file else document
        assert target.exists(), link
        if anchor:
            assert anchor in {slug(heading) for heading in sections(target.read_text())}, link


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids_of(DOCUMENTS))
def test_named_files_exist(document: Path) -> None:
    """A path may begin at the project's folder, at `src` or beside the document, or be only a name; `<name>` is any."""
    for name in re.findall(r"`([\w./<>*-]+\.(?:py|md|toml|conf|js|json|lock))`", without_code(document.read_text())):
        pattern = re.sub(r"<\w+>", "*", name)
        if not pattern.startswith("/"):  # a path of an HTTP service
            places = [place.glob(pattern) for place in (ROOT, ROOT / "src", document.parent)]
            if "/" not in pattern:
                places.append((ROOT / "src").glob(f"*/{pattern}"))
            assert any(any(place) for place in places), name


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids_of(DOCUMENTS))
def test_named_tests_exist(document: Path) -> None:
    """A test that is named after a file, in one paragraph or table row, must be in that file; else it may be in any."""
    everything = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for paragraph in re.split(r"\n\n|\n\|", without_code(document.read_text())):
        text = everything
        for path, name in re.findall(r"`(tests/[\w/]+\.py)`|`(test_\w+)`", paragraph):
            if path:
                text = (ROOT / path).read_text()
            else:
                assert f"def {name}(" in text, name


def test_every_invariant_names_the_code_that_enforces_it_and_a_test() -> None:
    rows = re.findall(r"^\| (I\d+) \| (.+) \| (.+) \| (.+) \|$", ARCHITECTURE, flags=re.MULTILINE)
    assert [name for name, *_ in rows] == [f"I{number}" for number in range(1, 14)]
    for _, _, enforced_by, shown_by in rows:
        assert ".py`" in enforced_by
        assert "`tests/" in shown_by


def test_decisions_are_numbered_without_gaps_and_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    files = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert [name[:4] for name in files] == [f"{number:04}" for number in range(1, len(files) + 1)]
    listed = re.findall(r"\]\((\d{4}-[^)]+\.md)\)", (folder / "README.md").read_text())
    assert listed == files


@pytest.mark.parametrize("name", [path.name for path in (ROOT / "docs" / "decisions").glob("[0-9]*.md")])
def test_a_decision_has_date_status_context_decision_and_consequences(name: str) -> None:
    text = (ROOT / "docs" / "decisions" / name).read_text()
    assert re.match(r"# \d{4} .+\n\n- Date: \d{4}-\d\d-\d\d\n- Status: (?:accepted|superseded)\b", text)
    assert {"Context", "Decision", "Consequences"} <= sections(text).keys()


def test_the_list_of_decisions_has_their_titles() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"^- \[(\d{4} .+)\]\((.+)\)$", (folder / "README.md").read_text(), re.MULTILINE)
    titles = {path.name: path.read_text().splitlines()[0][2:] for path in sorted(folder.glob("[0-9]*.md"))}
    assert listed == [(title, name) for name, title in titles.items()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids_of(DOCUMENTS))
def test_documents_mention_only_the_project(document: Path) -> None:
    for foreign in ("shared/", f"{ROOT}/", "TODO", "FIXME"):
        assert foreign not in document.read_text()


def test_the_site_has_every_document() -> None:
    listed = set(re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    shown = {str(path.relative_to(ROOT)) for path in DOCUMENTS if path.parent in (ROOT, ROOT / "docs")}
    assert shown <= listed
    assert all((ROOT / path).is_file() for path in listed)
