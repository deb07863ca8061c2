"""I11: wherever a process dies on a quote's path, unused reservations are free again within the TTL and the grace.

Each path runs one coroutine function. A separate process is killed at each of its suspensions in turn, until the
function returns before the next one, so no suspension is listed by hand. Lost requests are not sent again, so time
alone must free what they reserved.
"""

import asyncio
import itertools
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
import structlog

from process.clock import utc_now
from support.builders import order
from support.forks import Forks
from support.kill_at import ENDED, Point
from support.leaks import GRACE, LIMIT, QUOTE_TTL, ManyAccounts, World
from support.waiting import STACK_HANG, eventually
from wire.errors import Refusal, Refused

pytestmark = pytest.mark.long

log = structlog.get_logger()

BOUND = QUOTE_TTL + GRACE

LATE = 10.0
"""Seconds by which reservations may be freed later than the broker removes a message of the same TTL: exposure checks
for expired ones every quarter second, and the machine may be busy."""

MAX_PARALLEL = 12
"""Worlds that run at the same time."""


# --- what clients do until the victim dies ----------------------------------------------------------------------------


async def only_wait(world: World, attempt: int) -> None:
    await asyncio.Event().wait()


async def refuse_quotes(world: World, attempt: int) -> None:
    """The exchange refuses the maker's quotes, so the maker releases its reservations."""

    async def refuse(*_: object) -> None:
        raise Refused(Refusal.STALE_QUOTE, "as the test wants")

    assert world.exchange is not None
    world.exchange.put_quote = refuse  # type: ignore[method-assign,assignment] # a stand-in
    try:
        await asyncio.Event().wait()
    finally:
        del world.exchange.put_quote


async def reserve(world: World, attempt: int) -> None:
    await world.reserve("AAA", attempt)


async def release(world: World, attempt: int) -> None:
    await world.release(await world.reserve("AAA", attempt))


async def activate(world: World, attempt: int) -> None:
    await world.reserve("AAA", attempt)
    await world.activate("AAA", attempt)


async def deactivate(world: World, attempt: int) -> None:
    await world.reserve("AAA", attempt)
    await world.deactivate(await world.activate("AAA", attempt))


async def put(world: World, attempt: int) -> None:
    await world.reserve("AAA", attempt)
    await world.put("AAA", attempt)


async def put_and_withdraw(world: World, attempt: int) -> None:
    await put(world, attempt)
    await world.withdraw("AAA", attempt)
    await world.passed()


async def put_and_fill(world: World, attempt: int) -> None:
    await put(world, attempt)
    await world.order(order(symbol="AAA", quantity=3))


async def put_two(world: World, attempt: int) -> None:
    """Two makers' quotes are activated together. The newer becomes active first, and the other is deactivated."""
    await world.reserve("AAA", 2 * attempt)
    await world.reserve("AAA", 2 * attempt - 1, another=True)
    newer = asyncio.create_task(world.put("AAA", 2 * attempt))
    older = asyncio.create_task(world.put("AAA", 2 * attempt - 1, another=True))
    await asyncio.gather(newer, older, return_exceptions=True)


@dataclass(frozen=True)
class QuotePath:
    """A path of a quote: which process dies in which call, and the requests that lead there."""

    victim: Literal["exchange", "exposure", "maker"]
    function: str
    where: str
    drive: Callable[[World, int], Awaitable[None]]


QUOTE_PATHS = {
    "the maker attempts": QuotePath("maker", "maker.quoter:Quoter._attempt", "AAA", only_wait),
    "the maker releases": QuotePath("maker", "maker.cleanup:Cleanup._release", "AAA", refuse_quotes),
    "exposure reserves": QuotePath("exposure", "exposure.commit:Committer._attempt", "Service.reserve", reserve),
    "exposure activates": QuotePath("exposure", "exposure.commit:Committer._attempt", "Service.activate", activate),
    "exposure deactivates": QuotePath(
        "exposure", "exposure.commit:Committer._attempt", "Service.deactivate", deactivate
    ),
    "exposure releases": QuotePath("exposure", "exposure.commit:Committer._attempt", "Service.release", release),
    "exposure moves the time": QuotePath("exposure", "exposure.commit:Committer._append", "[]", put_and_withdraw),
    "the exchange puts": QuotePath("exchange", "exchange.pending_quotes:PendingQuotes._activate", "AAA", put),
    "the exchange commits": QuotePath("exchange", "exchange.lane:Lane._commit_quote", "AAA", put),
    "the exchange fills": QuotePath("exchange", "exchange.lane:Lane._commit_orders", "AAA", put_and_fill),
    "the exchange withdraws": QuotePath("exchange", "exchange.lane:Lane._commit_withdrawal", "", put_and_withdraw),
    "the exchange deactivates": QuotePath(
        "exchange", "exchange.pending_quotes:PendingQuotes._deactivate", "AAA", put_two
    ),
}


# --- dying ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Crash:
    """A process that died, and the consequences.

    Attributes:
        ended: the call had returned before.
        held: something had been reserved.
        unbacked: seconds until everything was free again, from the death or, if later, from the end of AAA's quote.
        reference: seconds for which the broker kept a message whose TTL is the bound.
        most: the largest usage of the limit that was observed.
        refuted: invariants that the logs refute.
    """

    path: str
    suspension: int
    moment: str
    ended: bool
    held: bool
    unbacked: float
    reference: float
    most: int
    refuted: list[str]


class Explorer:
    """Kills processes, each in a separate world. A failure ends all."""

    def __init__(
        self, group: asyncio.TaskGroup, accounts: ManyAccounts, folder: Path, forks: Forks, http: httpx.AsyncClient
    ) -> None:
        self._group = group
        self._accounts = accounts
        self._folder = folder
        self._forks = forks
        self._http = http
        self._numbers = itertools.count()
        self._room = asyncio.Semaphore(MAX_PARALLEL)

    async def explore(self, name: str) -> list[Crash]:
        """Let a process die at every suspension on a path."""
        path = QUOTE_PATHS[name]
        crashes = []
        for suspension in itertools.count(1):
            for moment in ("waiting", "sent"):
                point = Point(path.function, path.where, suspension, moment)
                died: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
                crashes.append(self._group.create_task(self._crash(name, path, point, died)))
                if await died:
                    return await asyncio.gather(*crashes)
        raise AssertionError("unreachable: the count never ends")

    async def _crash(self, name: str, path: QuotePath, point: Point, died: "asyncio.Future[bool]") -> Crash:
        async with self._room:
            world = World(self._accounts, next(self._numbers), self._folder, self._forks, self._http)
            async with world.running(path.victim):
                victim = await world.start(path.victim, point)
                code = await _driven(world, path, victim.ended)
                killed_at = utc_now()
                died.set_result(code == ENDED)
                assert code in (ENDED, -signal.SIGKILL), code
                return await _aftermath(world, name, path, point, code == ENDED, killed_at)


async def _driven(world: World, path: QuotePath, ended: "asyncio.Future[int]") -> int:
    """Send the path's requests until the victim is dead. Return its exit code."""

    async def drive() -> None:
        for attempt in itertools.count(1):
            with suppress(Refused, httpx.HTTPError):
                await path.drive(world, attempt)
            await asyncio.sleep(0.02)

    driving = asyncio.create_task(drive())
    either: list[asyncio.Future[Any]] = [driving, ended]
    await asyncio.wait(either, timeout=STACK_HANG, return_when=asyncio.FIRST_COMPLETED)
    driving.cancel()
    await asyncio.wait([driving])
    if not driving.cancelled():
        driving.result()
    assert ended.done(), f"{path} was not reached"
    return ended.result()


async def _aftermath(world: World, name: str, path: QuotePath, point: Point, ended: bool, killed_at: datetime) -> Crash:
    if path.victim != "maker":
        await world.start(path.victim)

    free_at, reference = await asyncio.gather(world.freed(), world.reference())
    held_until = max(killed_at, await world.backed_until() or killed_at)
    attempt = await world.quoted("BBB")
    await world.used()
    with suppress(Refused):  # it may have expired meanwhile
        await world.withdraw("BBB", attempt)
    if path.victim == "maker":
        await world.start("maker")
        await eventually(world.quotes_aaa, STACK_HANG)
    else:
        await world.quoted("AAA")
    await world.used()
    report = await world.audit()
    refuted = [f"{verdict.code}: {verdict.findings}" for verdict in report.refuted]
    unbacked = max(0.0, (free_at - held_until).total_seconds()) if world.held else 0.0
    return Crash(name, point.suspension, point.moment, ended, world.held, unbacked, reference, world.most, refuted)


@pytest.mark.timeout(600)
async def test_wherever_a_process_dies_its_reservations_are_free_again_in_time(
    accounts: ManyAccounts, forks: Forks, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    async with asyncio.TaskGroup() as group:
        explorer = Explorer(group, accounts, tmp_path, forks, http)
        exploring = {name: group.create_task(explorer.explore(name)) for name in QUOTE_PATHS}
    found = {name: explored.result() for name, explored in exploring.items()}
    for name, crashes in found.items():
        assert {crash.ended for crash in crashes} == {True, False}, name
        worst = max(crash.unbacked for crash in crashes)
        log.info("explored", path=name, crashes=len(crashes), worst_s=round(worst, 2), of_bound=f"{worst / BOUND:.0%}")
    assert [crash.held for crash in found["exposure reserves"]] == [False, True, True]
    for crash in itertools.chain(*found.values()):
        log.info("crash", **asdict(crash))
        assert crash.unbacked <= max(BOUND, crash.reference) + LATE, crash
        assert crash.most <= LIMIT, crash
        assert not crash.refuted, crash
