"""A connection of a command to the NATS servers of a stack, for as long as the command takes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from jet.connection import Connection
from jet.link import redacted
from process import tls
from process.health import Health
from stack import keys
from stack.lock import is_up
from stack.programs import nats_url
from stack.settings import StackSettings

TIMEOUT = 3.0
"""Seconds that a server may take to be there."""


class Unreachable(Exception):  # noqa: N818 # says what is so
    """No NATS server answers, or it does not let us do what was asked for."""


@asynccontextmanager
async def connect(settings: StackSettings, command: str, user: str, health: Health) -> AsyncIterator[Connection]:
    """A connection with a user's key, which is closed at the end.

    Raises:
        Unreachable: no server answers in time.
    """
    url = nats_url(settings) if is_up(settings) else settings.stack.url
    connection = Connection(url, command, health, keys.seed_of(settings, user), tls.client_context(settings.stack))
    try:
        async with asyncio.timeout(TIMEOUT):
            await connection.__aenter__()
    except TimeoutError as error:
        reason = "; ".join(waiting.reason for waiting in health.report().waiting_for)
        raise Unreachable(f"no NATS server answers at {redacted(url)}: is the stack up? ({reason})") from error
    try:
        yield connection
    finally:
        await connection.__aexit__(None, None, None)
