"""Connect a command to the NATS servers of a stack."""

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
"""Seconds that connecting may take."""


class Unreachable(Exception):  # noqa: N818 # a state, not an error
    """No NATS server answers, or it does not permit the request."""


@asynccontextmanager
async def connect(settings: StackSettings, command: str, user: str, health: Health) -> AsyncIterator[Connection]:
    """Open a connection with a user's key, for the duration of the block.

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
