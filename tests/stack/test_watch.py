"""What `stack watch` prints."""

import asyncio
import json
import sys
from datetime import UTC, datetime

import pytest

from stack.settings import StackSettings
from stack.watch import line, readable
from support.broker import Broker, free_port

NOW = datetime(2026, 1, 5, 9, 30, 1, 234567, tzinfo=UTC)


def test_a_message_is_one_line_with_its_time_subject_and_json() -> None:
    assert line(NOW, "fills.0.AAA", b'[{"price": "100.05",\n "quantity": 5}]', None) == (
        '09:30:01.234 fills.0.AAA [{"price":"100.05","quantity":5}]'
    )


@pytest.mark.parametrize(
    ("headers", "shown"),
    [({"Nats-Marker-Reason": "MaxAge"}, "(MaxAge)"), ({"KV-Operation": "DEL"}, "(DEL)"), ({"Nats-Msg-Id": "x"}, "")],
)
def test_a_deleted_or_expired_key_is_shown_as_such(headers: dict[str, str], shown: str) -> None:
    assert line(NOW, "$KV.quotes.AAA", b"", headers) == f"09:30:01.234 $KV.quotes.AAA {shown}".rstrip()


@pytest.mark.parametrize("data", [b"\x1b[2Jboo\n", b"\xff\x00", b'{"half":', b"plain"])
def test_a_payload_that_is_not_json_cannot_disturb_the_terminal(data: bytes) -> None:
    shown = readable(data)
    assert shown.isprintable()
    assert isinstance(json.loads(shown), str)


async def test_messages_are_printed_as_they_pass(broker: Broker, environ: dict[str, str]) -> None:
    """The command subscribes, prints, and ends at once on a signal."""
    watching = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "stack",
        "watch",
        "anything.>",
        stdout=asyncio.subprocess.PIPE,
        env=environ | {"NATS_URL": broker.url},
    )
    assert watching.stdout is not None
    first = asyncio.create_task(watching.stdout.readline())
    while not first.done():
        await broker.connection.client.publish("anything.at.all", b'{"n": 1}')
        await asyncio.wait([first], timeout=0.1)
    assert first.result().decode().rstrip().endswith(' anything.at.all {"n":1}')
    watching.terminate()
    await watching.communicate()


async def test_a_missing_server_is_reported_without_a_traceback(
    environ: dict[str, str], settings: StackSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"nats://127.0.0.1:{free_port()}"
    watching = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "stack",
        "watch",
        ">",
        stderr=asyncio.subprocess.PIPE,
        env=environ | {"NATS_URL": url},
    )
    _, complaint = await watching.communicate()
    assert watching.returncode == 1
    assert url in complaint.decode()
    assert "Traceback" not in complaint.decode()
