"""`stack watch`: print every message on a subject as it is published, one line each."""

import asyncio
import json
from collections.abc import Mapping
from datetime import datetime

import msgspec

from process.health import Health
from stack.connect import Unreachable, connect
from stack.settings import StackSettings

_KEY_HEADERS = ("KV-Operation", "Nats-Marker-Reason")
"""Headers that give a message without a body its meaning: a key was deleted, or has expired."""


def line(time: datetime, subject: str, data: bytes, headers: Mapping[str, str] | None) -> str:
    """Format one message as one line: time, subject, the headers of a deleted key, and its JSON."""
    shown = [f"({headers[name]})" for name in _KEY_HEADERS if headers and name in headers]
    return " ".join([f"{time:%H:%M:%S.%f}"[:-3], subject, *shown, readable(data)]).rstrip()


def readable(data: bytes) -> str:
    """Format a payload on one line. Anything but JSON becomes a JSON string: no raw bytes reach the terminal."""
    if not data:
        return ""
    try:
        return msgspec.json.format(data, indent=-1).decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return json.dumps(data.decode(errors="backslashreplace"))


async def run(settings: StackSettings, subject: str) -> None:
    """Print the messages on `subject` until cancelled.

    Raises:
        Unreachable: no server answers, or it refuses the subject.
    """
    health = Health("watch")
    async with connect(settings, "watch", "observer", health) as connection:
        await connection.subscribe(
            subject,
            lambda passing: print(
                line(datetime.now().astimezone(), passing.subject, passing.data, passing.headers), flush=True
            ),
        )
        for _ in range(2):  # the first ping may overtake the subscription
            await connection.client.flush()
        if not health.ready:
            reasons = "; ".join(waiting.reason for waiting in health.report().waiting_for)
            raise Unreachable(f"{subject} cannot be watched: {reasons}; docs/permissions.md lists what can be")
        await asyncio.Event().wait()
