"""Observe every process: query supervisord once, and the health URL of each process."""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Self

import aiohttp
import msgspec

from process import tls
from process.health import HealthReport
from stack.control import Control
from stack.damage import damage_in, lacking
from stack.lag import Lag, lag_of
from stack.phases import Answer, Condition, Phase, condition
from stack.programs import Program
from stack.settings import StackSettings
from web.roles import Role
from web.tokens import TokenFile, TokensError

TIMEOUT = 1.0
"""Seconds a health URL may take to answer."""

LOG_END = 1024 * 1024
"""Bytes at the end of a NATS server's log that are read: enough for its last start, and for the stack traces with which
the run before may have ended."""

_NOT_READY = (Phase.STARTING, Phase.SILENT, Phase.WAITING, Phase.DOWN)


class Observer:
    """Observes the processes of one stack."""

    def __init__(self, control: Control, programs: Sequence[Program], settings: StackSettings) -> None:
        self._control = control
        self._programs = programs
        self._token = _reader_token(settings)
        self._logs = settings.logs
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=TIMEOUT),
            connector=aiohttp.TCPConnector(ssl=tls.client_context(settings.stack) or True),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def observe(self) -> list[Condition]:
        """Return the condition of each process, in the order in which they start.

        Raises:
            NotRunning: supervisord does not answer.
        """
        processes = await self._control.processes()
        answers = await asyncio.gather(*(self._health(program) for program in self._programs))
        found = [
            condition(program, processes.get(program.name), answer)
            for program, answer in zip(self._programs, answers, strict=True)
        ]
        found = await asyncio.gather(*map(self._with_missing_messages, found))
        return [
            self._with_damage(each) if each.phase in _NOT_READY and each.program.keeps_store else each for each in found
        ]

    async def _with_missing_messages(self, found: Condition) -> Condition:
        """Mark a server of a cluster as waiting if it lacks a part of the market log: a person must fix that."""
        program, is_alone = found.program, len([each for each in self._programs if each.keeps_store]) == 1
        if is_alone or not program.keeps_store or found.phase is not Phase.READY:
            return found
        answered = await self._get(program, f"{program.health.removesuffix('/healthz')}/jsz?streams=true")
        detail = lacking(answered[1]) if answered is not None and answered[0] == 200 else ""
        return replace(found, phase=Phase.WAITING, detail=detail, waits_for=("store",)) if detail else found

    def _with_damage(self, found: Condition) -> Condition:
        """Add to the condition of a NATS server what its log says about damage to its store."""
        try:
            with (self._logs / f"{found.program.name}.log").open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_END))
                damage = damage_in(log.read(LOG_END).decode(errors="replace"))
        except OSError:
            return found
        return replace(found, detail="; ".join(filter(None, [found.detail, damage])))

    async def lags(self) -> dict[str, Lag]:
        """Return the lag of each service that reports it, by name."""
        services = [program for program in self._programs if program.address.startswith("http")]
        pages = await asyncio.gather(*(self._get(program, f"{program.address}/metrics") for program in services))
        return {
            program.name: found
            for program, answered in zip(services, pages, strict=True)
            if answered is not None and answered[0] == 200 and (found := lag_of(answered[1].decode()))
        }

    async def _health(self, program: Program) -> Answer | None:
        answered = await self._get(program, program.health) if program.health else None
        return None if answered is None else answer(*answered)

    async def _get(self, program: Program, url: str) -> tuple[int, bytes] | None:
        """Return the status and body of a program's response; None if it does not respond."""
        try:
            async with self._session.get(url, headers=self._headers(program)) as response:
                return response.status, await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None

    def _headers(self, program: Program) -> dict[str, str]:
        """Authenticate as a reader: a service then reports what it waits for, and why."""
        token = self._token() if program.address.startswith("http") else ""
        return {"Authorization": f"Bearer {token}"} if token else {}


def _reader_token(settings: StackSettings) -> Callable[[], str]:
    """Return a function that returns a reader's token, or an empty text if there is none that we may read."""
    try:
        return TokenFile(settings.folder / settings.stack.tokens / Role.READER) if settings.stack.tokens else str
    except TokensError:
        return str


class _NatsHealth(msgspec.Struct):
    error: str = ""


def answer(status: int, body: bytes) -> Answer:
    """Decode the response of a health URL: that of a service, or that of a NATS server, which reports one fault."""
    try:
        report = msgspec.json.decode(body, type=HealthReport)
    except msgspec.MsgspecError:
        return Answer(status == 200, {} if status == 200 else {"health": _nats_error(body) or f"status {status}"})
    waiting_for, notices = (
        {each.name: each.reason for each in parts} for parts in (report.waiting_for, report.notices)
    )
    return Answer(report.ready, waiting_for, report.quarantined, notices)


def _nats_error(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_NatsHealth).error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
