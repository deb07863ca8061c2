"""Finding out how every process is: supervisord is asked once, and each health URL."""

import asyncio
from collections.abc import Sequence
from typing import Self

import aiohttp
import msgspec

from runtime.health import HealthReport
from stack.control import Control
from stack.phases import Answer, Condition, condition
from stack.programs import Program

TIMEOUT = 1.0
"""Seconds a health URL may take to answer."""


class Observer:
    """Looks at the processes of one stack."""

    def __init__(self, control: Control, programs: Sequence[Program]) -> None:
        self._control = control
        self._programs = programs
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def look(self) -> list[Condition]:
        """How each process is, in the order they start.

        Raises:
            NotRunning: there is no supervisord.
        """
        processes = await self._control.processes()
        answers = await asyncio.gather(*(self._ask(program) for program in self._programs))
        return [
            condition(program, processes.get(program.name), answer)
            for program, answer in zip(self._programs, answers, strict=True)
        ]

    async def _ask(self, program: Program) -> Answer | None:
        if not program.health:
            return None
        try:
            async with self._session.get(program.health) as response:
                return answer(response.status, await response.read())
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None


class _NatsHealth(msgspec.Struct):
    error: str = ""


def answer(status: int, body: bytes) -> Answer:
    """What a health URL's response says: one of ours, or the NATS server's, which tells the first fault it finds."""
    try:
        report = msgspec.json.decode(body, type=HealthReport)
    except msgspec.MsgspecError:
        return Answer(status == 200, {} if status == 200 else {"health": _nats_error(body) or f"status {status}"})
    return Answer(report.ready, {waiting.name: waiting.reason for waiting in report.waiting_for})


def _nats_error(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_NatsHealth).error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
