"""`stack watch`: every message on a subject, one line each, as it passes."""

import asyncio
import json
from collections.abc import Mapping
from datetime import datetime

import msgspec

from process.health import Health
from stack.connect import Unreachable, connect
from stack.settings import StackSettings

_TELLING = ("KV-Operation", "Nats-Marker-Reason")
"""Headers that make a message without a body mean something: a key was deleted, or expired."""


def line(time: datetime, subject: str, data: bytes, headers: Mapping[str, str] | None) -> str:
    """One message as one line: time, subject, what its headers say of a key, and its JSON."""
    shown = [f"({headers[name]})" for name in _TELLING if headers and name in headers]
    return " ".join([f"{time:%H:%M:%S.%f}"[:-3], subject, *shown, readable(data)]).rstrip()


def readable(data: bytes) -> str:
    """A payload on one line. What is no JSON is shown as a JSON string, so that nothing reaches the terminal raw."""
    if not data:
        return ""
    try:
        return msgspec.json.format(data, indent=-1).decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return json.dumps(data.decode(errors="backslashreplace"))


async def run(settings: StackSettings, subject: str) -> None:
    """Print what passes on `subject` until cancelled.

    Raises:
        Unreachable: there is no server, or it refuses the subject.
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
            raise Unreachable(f"{subject} cannot be watched: {reasons}; docs/permissions.md lists what may be")
        await asyncio.Event().wait()
