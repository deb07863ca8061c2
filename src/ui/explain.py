"""Gets the whole story of one quote: the output of `./qs explain QUOTE_ID --json`.

This needs the auditor's key, and reads a symbol's log from its beginning and the services' log files. So that the page
stays live meanwhile, it runs in a process of its own: one at a time, with a low priority, and with a timeout.
"""

import asyncio
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence

from process.installation import COMMAND
from recorded import command as recorded
from wire.errors import Refusal, Refused

_COMMAND = ("nice", "-n", "5", *recorded.COMMAND)

TIMEOUT = 10.0
"""Seconds that a request may take, including the wait for requests before it."""

MAX_PENDING = 4
"""Requests that may be pending at the same time."""


class Explainer:
    """Gets the stories of quotes, one after the other.

    Args:
        command: a command that prints a quote's story as JSON, or exits with code 1 if it knows no such quote. The
            quote's id is appended to it.
        timeout: seconds that a request may take.
    """

    def __init__(self, command: Sequence[str] = _COMMAND, timeout: float = TIMEOUT) -> None:
        self._command = command
        self._timeout = timeout
        self._lock = asyncio.Lock()
        self._pending = 0

    async def story(self, quote_id: str) -> bytes:
        """Return the story as JSON.

        Raises:
            Refused: NOT_FOUND: no such quote is known; OVERLOADED: too many requests are pending; UNAVAILABLE: it takes
                too long, or the logs cannot be read.
        """
        if self._pending >= MAX_PENDING:
            raise Refused(Refusal.OVERLOADED, "other quotes are being explained")
        self._pending += 1
        try:
            async with asyncio.timeout(self._timeout), self._lock:
                return await self._run(quote_id)
        except TimeoutError as error:
            raise Refused(
                Refusal.UNAVAILABLE,
                f"it takes longer than {self._timeout:g} s; {COMMAND} explain {quote_id} takes as long as it needs",
            ) from error
        finally:
            self._pending -= 1

    async def _run(self, quote_id: str) -> bytes:
        process = await asyncio.create_subprocess_exec(*self._command, quote_id, stdout=PIPE, stderr=PIPE)
        try:
            output, errors = await process.communicate()
        finally:
            await _end(process)
        if process.returncode == recorded.PRINTED:
            return output
        detail = errors.decode(errors="replace").strip()[-500:]
        unknown = process.returncode == recorded.UNKNOWN_QUOTE
        raise Refused(Refusal.NOT_FOUND if unknown else Refusal.UNAVAILABLE, detail)


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()
