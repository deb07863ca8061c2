"""A client of a running supervisord, over its unix socket."""

import xmlrpc.client
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec

TIMEOUT = 3.0
"""Seconds supervisord may take to answer; it takes milliseconds unless the machine is overloaded."""


class NotRunning(Exception):  # noqa: N818 # a state, not an error
    """No supervisord answers: the stack is not up."""


class ProcessInfo(msgspec.Struct, frozen=True):
    """supervisord's report on one process. Times are seconds since the epoch; `exitstatus` is -1 after a signal."""

    name: str
    statename: str
    pid: int
    start: int
    now: int
    exitstatus: int


class Control:
    """A client of the supervisord behind `socket`."""

    def __init__(self, socket: Path) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(path=str(socket), force_close=True),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def processes(self) -> dict[str, ProcessInfo]:
        """Return all processes by name.

        Raises:
            NotRunning: supervisord does not answer.
        """
        found = msgspec.convert(await self._call("supervisor.getAllProcessInfo"), list[ProcessInfo])
        return {process.name: process for process in found}

    async def shut_down(self) -> None:
        """Request that supervisord stop everything and exit. Returns before that is done.

        Raises:
            NotRunning: supervisord does not answer.
        """
        await self._call("supervisor.shutdown")

    async def _call(self, method: str) -> Any:
        body = xmlrpc.client.dumps((), method)
        try:
            async with self._session.post("http://supervisord/RPC2", data=body) as response:
                (result,), _ = xmlrpc.client.loads(await response.text())
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise NotRunning(str(error)) from error
        except xmlrpc.client.Fault as fault:
            raise NotRunning(f"it is stopping: {fault.faultString}") from fault
        return result
