"""The streams, buckets, subjects and services that the page of nats commands names exist.

That the commands work is tested on a running stack: `tests/examples/test_as_documented.py`.
"""

import json
import re
from pathlib import Path

import pytest

from jet.discovery import Instance
from jet.topology import Shape, declarations
from wire import subjects

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "nats-cli.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
BUCKETS = {subjects.RESERVATIONS_BUCKET, subjects.QUOTES_BUCKET}


def commands(text: str) -> str:
    """Return the lines of all shell blocks, without comments."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```$", text, flags=re.MULTILINE | re.DOTALL)
    return "\n".join(line.partition(" #")[0] for block in blocks for line in block.splitlines())


def takes(pattern: str, subject: str) -> bool:
    """True if a stream's subject pattern covers every subject that a subscription to `subject` may receive."""
    mine, theirs = pattern.split("."), subject.split(".")
    for index, part in enumerate(mine):
        if part == ">" or (index < len(theirs) and theirs[index] == ">"):
            return True
        if index >= len(theirs) or ("*" not in (part, theirs[index]) and part != theirs[index]):
            return False
    return len(mine) == len(theirs)


@pytest.mark.parametrize("text", [PAGE, OPERATIONS], ids=["nats-cli", "operations"])
def test_named_streams_and_buckets_are_declared(text: str) -> None:
    found = commands(text)
    streams = set(re.findall(r"\b(?:MARKET-\d+|POSITIONS|KV_\w+)", found))
    assert streams
    assert streams <= set(subjects.streams(4))
    assert set(re.findall(r"nats kv (?:watch|get|ls) (\w+)", found)) <= BUCKETS


def test_subscribed_subjects_belong_to_streams() -> None:
    declared = [name for stream in declarations(Shape(4, 1, 1, 1, 1)) for name in stream["subjects"]]
    found = set(re.findall(r"nats sub '([^']+)'", commands(PAGE))) - {"$JS.EVENT.>"}
    assert found
    for subject in found:
        assert any(takes(pattern, subject) for pattern in declared), subject


def test_a_message_is_read_from_the_stream_that_has_its_subject() -> None:
    declared = {stream["name"]: stream["subjects"] for stream in declarations(Shape(4, 1, 1, 1, 1))}
    found = re.findall(r"nats stream get (\S+) --last-for (\S+)", commands(PAGE))
    assert found
    for stream, subject in found:
        assert any(takes(pattern, subject) for pattern in declared[stream])
        if stream.startswith(subjects.MARKET_STREAM):
            assert stream == subjects.market_stream(subjects.shard_of(subjects.last_token(subject), 4))


def test_requests_are_sent_to_served_subjects() -> None:
    discovery = {f"'{subject}'" for subject in Instance("test", []).subjects()}
    served = {value for name, value in vars(subjects.Rpc).items() if name.isupper()} | discovery
    found = set(re.findall(r"nats req (\S+)", commands(PAGE)))
    assert found
    assert {subject for subject in found if not subject.startswith("'$JS.API.DIRECT.GET.MARKET-")} <= served


def test_the_context_is_named_after_its_file_and_has_the_default_address() -> None:
    (name,) = re.findall(r"nats context select (\w+)", PAGE)
    context = json.loads((ROOT / "nats" / f"{name}.json").read_text())
    assert context["url"] == "nats://127.0.0.1:4222"
