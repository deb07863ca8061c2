"""The diagrams match the code: layers as enforced, arrows as the broker permits them, files that exist."""

import re
import tomllib
from pathlib import Path

from jet.grants import Grant, grants
from wire import subjects
from wire.subjects import Rpc

ROOT = Path(__file__).parents[2]
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
README = (ROOT / "README.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()

GRANTS = {grant.user: grant for grant in grants(shards=1)}

STORES = {
    "market": ("MARKET-0", (subjects.quotes(0, "*"), subjects.fills(0, "*"))),
    "positions": ("POSITIONS", (subjects.POSITIONS,)),
    "decisions": ("EXPOSURE", (subjects.DECISIONS,)),
}
"""The diagrams' name of each store: the stream, and the subjects that are written."""

REQUESTS = {
    ("maker", "exposure"): Rpc.RESERVE,
    ("maker", "exchange"): Rpc.PUT_QUOTE,
    ("exchange", "exposure"): Rpc.ACTIVATE,
    ("ui", "exposure"): Rpc.USAGE,
}


def diagrams(document: str, kind: str) -> list[str]:
    """Return the diagrams of a kind, in order."""
    return [text for text in re.findall(r"```mermaid\n(.*?)```", document, re.DOTALL) if text.startswith(kind)]


def test_the_drawn_layers_are_the_enforced_ones() -> None:
    [drawn] = [diagram for diagram in diagrams(ARCHITECTURE, "flowchart") if "subgraph" in diagram]
    groups = {
        name: {member for line in inside.splitlines()[1:] for member in line.strip().split(" ~~~ ")}
        for name, inside in re.findall(r"subgraph (\w+)(.*?)\n    end", drawn, re.DOTALL)
    }
    chain: list[str] = []
    for line in re.sub(r"subgraph.*?\n    end", "", drawn, flags=re.DOTALL).splitlines():
        nodes = line.strip().split(" --> ")
        if len(nodes) > 1:
            assert not chain or chain[-1] == nodes[0]
            chain += nodes[1:] if chain else nodes
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    [layers] = [c["layers"] for c in settings["tool"]["importlinter"]["contracts"] if c["type"] == "layers"]
    assert [groups.get(node, {node}) for node in chain] == [set(layer.split(" | ")) for layer in layers]


def arrows(diagram: str) -> set[tuple[str, str]]:
    """Return the arrows of a flowchart, as pairs of node names."""
    plain = re.sub(r'\[\("?.*?"?\)\]|\["?.*?"?\]|-- ".*?" ', lambda m: "--" if m[0].startswith("--") else "", diagram)
    return {(a, b) for a, b in re.findall(r"(\w+)\s*-*-->\s*(\w+)", plain)}


def writes(grant: Grant, store: str) -> bool:
    return any(subject in grant.publish for subject in STORES[store][1])


def follows(grant: Grant, store: str) -> bool:
    stream = STORES[store][0]
    requests = (f"$JS.API.CONSUMER.CREATE.{stream}.", f"$JS.API.DIRECT.GET.{stream}")
    return any(subject.startswith(requests) for subject in grant.publish)


def test_the_drawn_flow_is_what_the_broker_permits() -> None:
    """All writes and requests must be drawn; of the reads, those that are drawn must be permitted."""
    [flow] = diagrams(README, "flowchart")
    drawn = arrows(flow)
    services = {service for service in GRANTS if any(service in arrow for arrow in drawn)}
    assert {(a, b) for a, b in drawn if b in STORES and a in services} == {
        (service, store) for service in services for store in STORES if writes(GRANTS[service], store)
    }
    for store, service in {(a, b) for a, b in drawn if a in STORES}:
        assert follows(GRANTS[service], store), (store, service)
    requesting = {(a, b) for a, b in drawn if a in services and b in services}
    assert requesting <= REQUESTS.keys()
    for (caller, callee), subject in REQUESTS.items():
        assert subject in GRANTS[caller].publish
        assert f"rpc.{callee}.*" in GRANTS[callee].subscribe


def test_the_observer_may_subscribe_to_every_subject_that_the_documents_watch() -> None:
    """`./qs watch` uses the observer's key."""
    watched = re.findall(r"\./qs watch '([^']+)'", README + OPERATIONS)
    granted = [subject.removesuffix(">") for subject in GRANTS["observer"].subscribe]
    assert watched
    for subject in watched:
        assert any(subject.startswith(known) for known in granted), subject


def test_the_files_in_the_sequence_diagrams_exist() -> None:
    drawn = diagrams(ARCHITECTURE, "sequenceDiagram")
    named = {name for diagram in drawn for name in re.findall(r"\w+/\w+\.py", diagram)}
    assert len(drawn) == 2
    assert named
    for name in named:
        assert (ROOT / "src" / name).exists(), name
