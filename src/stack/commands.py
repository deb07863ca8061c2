"""What another terminal asks of a stack: `down`, `status`, `wait`, and `clean-data` and `repair` when it is down."""

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
"""Seconds to wait for a stack to stop, beyond what it gives itself."""


async def down(settings: StackSettings) -> int:
    """Stop the stack, and wait until it is down. Returns the exit code."""
    if not is_up(settings):
        print(f"nothing is up on {settings.data}")
        return 0
    patience = stop_deadline(planned(settings)) + DOWN_MARGIN
    deadline = time.monotonic() + patience
    async with Control(settings.socket) as control:
        asked = False
        while is_up(settings):
            if time.monotonic() > deadline:
                print(f"still not down after {patience:.0f} s: see {settings.logs / 'supervisord.log'}")
                return 1
            if not asked:
                asked = await _asked_to_stop(control)
            await asyncio.sleep(0.1)
    print("everything is stopped")
    return 0


async def _asked_to_stop(control: Control) -> bool:
    try:
        await control.shut_down()
    except NotRunning:
        return False  # it is starting, or stopping already
    return True


async def status(settings: StackSettings) -> int:
    """Print how every process is. Returns 0 if all are ready, else 1."""
    conditions = await _observe(settings)
    print(_report(settings, conditions, await _lags(settings)))
    return 0 if conditions and all_fine(conditions) else 1


async def wait(settings: StackSettings, timeout: float) -> int:
    """Wait until every process is ready. Returns 0 then; 1, with the table, if `timeout` seconds did not suffice."""
    deadline = time.monotonic() + timeout
    while True:
        conditions = await _observe(settings)
        if conditions and all_fine(conditions):
            return 0
        if time.monotonic() > deadline:
            print(_report(settings, conditions, await _lags(settings)))
            return 1
        await asyncio.sleep(0.2)


def clean_data(settings: StackSettings, *, asks: bool) -> int:
    """Remove the data folder of a stack that is down, after asking a person. Returns the exit code."""
    if is_up(settings):
        print(f"the stack is up on {settings.data}: `{COMMAND} down` first")
        return 1
    if not lock_file(settings).exists():
        print(f"{settings.data} is no data folder of a stack: nothing is removed")
        return 1
    if asks and not _agreed(f"This deletes {settings.data}: every fill, position and log. Go on? (y/N) "):
        print("nothing is removed")
        return 1
    shutil.rmtree(settings.data)
    print(f"{settings.data} is removed")
    return 0


def repair(settings: StackSettings, *, log: bool = False) -> int:
    """Move away what is made again from the market log, of a stack that is down. Returns the exit code.

    That is every ledger's database, and with a single NATS server the stream of published positions: a ledger that is
    built anew would not publish over positions that the log does not lead to. With `log`, the market log of that server
    is made to end before its damage: see `stack.truncate`.
    """
    if log and not streams_in(settings.data).is_dir():
        print(
            f"{settings.data} holds no streams of a NATS server alone: docs/operations.md says how a cluster is mended"
        )
        return 1
    if not lock_file(settings).exists():
        print(f"{settings.data} is no data folder of a stack: nothing is moved")
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
    print(f"`{COMMAND} up` makes them anew from the market log; then `{COMMAND} audit`")
    return 0


def _agreed(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:  # there is nobody to ask
        print()
        return False


async def _observe(settings: StackSettings) -> list[Condition]:
    """How every process is; nothing if there is no stack."""
    async with Control(settings.socket) as control, Observer(control, planned(settings), settings) as observer:
        try:
            return await observer.observe()
        except NotRunning:
            return []


async def _lags(settings: StackSettings) -> dict[str, Lag]:
    """How far behind every service is that tells."""
    async with Control(settings.socket) as control, Observer(control, planned(settings), settings) as observer:
        return await observer.lags()


def _report(settings: StackSettings, conditions: list[Condition], behind: Mapping[str, Lag]) -> str:
    if not conditions:
        return f"nothing is up on {settings.data}"
    try:
        log = (settings.logs / "supervisord.log").read_text(errors="replace")
    except OSError:
        log = ""
    return f"{status_table(conditions, restarts(log), behind)}\n{summary(conditions)}"
