"""The commands for another terminal: `down`, `status` and `wait`, and for a stopped stack `clean-data` and `repair`."""

import asyncio
import shutil
import time
from collections.abc import Mapping
from datetime import UTC, datetime

from process import durable
from process.installation import COMMAND
from process.settings import tables
from stack.config import stop_deadline
from stack.control import Control, NotRunning
from stack.instances import LEDGER_DATABASE
from stack.lag import Lag
from stack.lock import hold_lock, is_up, lock_file
from stack.observe import Observer
from stack.phases import Condition, all_fine
from stack.programs import planned
from stack.settings import StackSettings, streams_in
from stack.table import restarts, status_table, summary
from stack.truncate import truncate
from wire.subjects import POSITIONS_STREAM, market_stream

DOWN_MARGIN = 10.0
"""Seconds to wait for a stack to stop, beyond the time that it allows itself."""


async def down(settings: StackSettings) -> int:
    """Stop the stack, and wait until it is down. Return the exit code."""
    if not is_up(settings):
        print(f"nothing is up on {settings.data}")
        return 0
    patience = stop_deadline(planned(settings)) + DOWN_MARGIN
    deadline = time.monotonic() + patience
    async with Control(settings.socket) as control:
        requested = False
        while is_up(settings):
            if time.monotonic() > deadline:
                print(f"not down after {patience:.0f} s: see {settings.logs / 'supervisord.log'}")
                return 1
            if not requested:
                requested = await _request_stop(control)
            await asyncio.sleep(0.1)
    print("everything is stopped")
    return 0


async def _request_stop(control: Control) -> bool:
    try:
        await control.shut_down()
    except NotRunning:
        return False  # it is starting, or stopping already
    return True


async def status(settings: StackSettings) -> int:
    """Print the condition of every process. Return 0 if all are ready, else 1."""
    conditions = await _observe(settings)
    print(_report(settings, conditions, await _lags(settings)))
    return 0 if conditions and all_fine(conditions) else 1


async def wait(settings: StackSettings, timeout: float) -> int:
    """Wait until every process is ready. Return 0, or print the table and return 1 after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        conditions = await _observe(settings)
        if conditions and all_fine(conditions):
            return 0
        if time.monotonic() > deadline:
            print(_report(settings, conditions, await _lags(settings)))
            return 1
        await asyncio.sleep(0.2)


def clean_data(settings: StackSettings, *, confirm: bool) -> int:
    """Delete the data folder of a stopped stack, if a person confirms it where `confirm` is set. Return the exit
    code.
    """
    if is_up(settings):
        print(f"the stack is up on {settings.data}: `{COMMAND} down` first")
        return 1
    if not lock_file(settings).exists():
        print(f"{settings.data} is not the data folder of a stack: nothing is deleted")
        return 1
    if confirm and not _confirmed(f"This deletes {settings.data}: every fill, position and log. Continue? (y/N) "):
        print("nothing is deleted")
        return 1
    shutil.rmtree(settings.data)
    print(f"{settings.data} is deleted")
    return 0


def repair(settings: StackSettings, *, log: bool = False) -> int:
    """Move away the data of a stopped stack that can be rebuilt from the market log. Return the exit code.

    These are every ledger's database and, with a single NATS server, the stream of published positions: a rebuilt
    ledger would not publish over positions that do not follow from the log. With `log`, the market log of that server
    is truncated before its damage: see `stack.truncate`.
    """
    if log and not streams_in(settings.data).is_dir():
        print(
            f"{settings.data} does not hold the streams of a single NATS server: docs/operations.md describes how to "
            "repair a cluster"
        )
        return 1
    if not lock_file(settings).exists():
        print(f"{settings.data} is not the data folder of a stack: nothing is moved")
        return 1
    with hold_lock(settings):
        database = settings.data / tables().get("ledger", {}).get("database", LEDGER_DATABASE)
        beside = sorted(database.parent.glob(f"{database.stem}*{database.suffix}*"))
        found = [path for path in beside if path.is_file() and not path.name.endswith(".lock")]
        found += [path for path in [streams_in(settings.data) / POSITIONS_STREAM] if path.is_dir()]
        name = f"away-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        for path in found:
            away = (database.parent if path in beside else settings.data) / name
            durable.make_folder(away)
            path.rename(away / path.name)
            durable.sync_folder(away)
            durable.sync_folder(path.parent)
            print(f"{path} is moved to {away}")
        if log:
            shards = [market_stream(shard) for shard in range(settings.market.shards)]
            print("\n".join(truncate(streams_in(settings.data), shards, settings.data / name)))
    print(f"`{COMMAND} up` rebuilds them from the market log; run `{COMMAND} audit` afterwards")
    return 0


def _confirmed(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:  # there is no terminal
        print()
        return False


async def _observe(settings: StackSettings) -> list[Condition]:
    """Return the condition of every process; empty if no stack is running."""
    async with Control(settings.socket) as control, Observer(control, planned(settings), settings) as observer:
        try:
            return await observer.observe()
        except NotRunning:
            return []


async def _lags(settings: StackSettings) -> dict[str, Lag]:
    """Return the lag of every service that reports it."""
    async with Control(settings.socket) as control, Observer(control, planned(settings), settings) as observer:
        return await observer.lags()


def _report(settings: StackSettings, conditions: list[Condition], lags: Mapping[str, Lag]) -> str:
    if not conditions:
        return f"nothing is up on {settings.data}"
    try:
        log = (settings.logs / "supervisord.log").read_text(errors="replace")
    except OSError:
        log = ""
    return f"{status_table(conditions, restarts(log), lags)}\n{summary(conditions)}"
