"""Asks for one quote's whole story: what `./qs explain QUOTE_ID --json` prints.

That takes reading a symbol's log from its beginning, with the auditor's key, and the services' logs besides. The page
goes on meanwhile, so it is done in a process of its own: one at a time, behind the services, and not for long.
"""

import asyncio
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence

from process.shipped import COMMAND
from recorded import command as recorded
from wire.errors import Refusal, Refused

_COMMAND = ("nice", "-n", "5", *recorded.COMMAND)

TIMEOUT = 10.0
"""Seconds a story may take, waiting for its turn included."""

WAITING = 4
"""Stories that may be asked for at once."""


class Explainer:
    """Tells quotes' stories, one after the other.

    Args:
        command: prints the story of the quote whose id follows, as JSON. Exit code 1: no such quote is known.
        timeout: seconds a story may take.
    """

    def __init__(self, command: Sequence[str] = _COMMAND, timeout: float = TIMEOUT) -> None:
        self._command = command
        self._timeout = timeout
        self._turn = asyncio.Lock()
        self._asked = 0

    async def story(self, quote_id: str) -> bytes:
        """The story, as JSON.

        Raises:
            Refused: NOT_FOUND: no such quote is known; OVERLOADED: too many are asked for; UNAVAILABLE: it takes too
                long, or what it is told from cannot be read.
        """
        if self._asked >= WAITING:
            raise Refused(Refusal.OVERLOADED, "other quotes are being explained")
        self._asked += 1
        try:
            async with asyncio.timeout(self._timeout), self._turn:
                return await self._run(quote_id)
        except TimeoutError as error:
            raise Refused(
                Refusal.UNAVAILABLE,
                f"it takes longer than {self._timeout:g} s; {COMMAND} explain {quote_id} takes as long as it needs",
            ) from error
        finally:
            self._asked -= 1

    async def _run(self, quote_id: str) -> bytes:
        process = await asyncio.create_subprocess_exec(*self._command, quote_id, stdout=PIPE, stderr=PIPE)
        try:
            output, complaint = await process.communicate()
        finally:
            await _end(process)
        if process.returncode == recorded.TOLD:
            return output
        detail = complaint.decode(errors="replace").strip()[-500:]
        unknown = process.returncode == recorded.UNKNOWN_QUOTE
        raise Refused(Refusal.NOT_FOUND if unknown else Refusal.UNAVAILABLE, detail)


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()
