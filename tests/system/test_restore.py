"""A restore of the market log alone: every symbol is quoted again, with revisions after those that the log names."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stack.settings import streams_in
from support.http import plain_client
from support.stack import Desk, Stack
from support.waiting import STACK_HANG, eventually

pytestmark = pytest.mark.system


def command(stack: Stack, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], env=stack.environ, capture_output=True, text=True, timeout=STACK_HANG
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def quoted(desk: Desk, symbols: set[str], beyond: int = 0) -> dict[str, int]:
    """Wait until each of these symbols has a quote with a revision after `beyond`. Return the revisions."""

    async def each() -> dict[str, int] | None:
        quotes: list[dict[str, Any]] = await desk.get("exchange", "/quotes")
        found = {quote["symbol"]: quote["revision"] for quote in quotes if quote["revision"] > beyond}
        return found if found.keys() >= symbols else None

    return await eventually(each, STACK_HANG, pause=0.1)  # type: ignore[return-value] # it is not None


async def test_after_the_market_log_alone_was_restored_all_symbols_are_quoted(tmp_path: Path) -> None:
    symbols = {"AAA", "BBB"}
    stack = Stack(tmp_path, symbols, MARKET_QUOTE_TTL=3, MARKET_GRACE=0.5, LOADGEN_RATE=5)
    stack.start()
    try:
        async with plain_client(timeout=STACK_HANG) as http:
            first = max((await quoted(Desk(stack, http), symbols)).values())
            for size in range(5, 9):
                command(stack, "stack", "symbol", "AAA", f"quote_size={size}")
            before = (await quoted(Desk(stack, http), {"AAA"}, first + 3))["AAA"]
    finally:
        assert stack.stop() == 0, stack.output()

    streams = streams_in(stack.settings.data)
    for folder in streams.iterdir():
        if not folder.name.startswith("MARKET-"):
            shutil.rmtree(folder)
    for database in stack.settings.data.glob("ledger.sqlite*"):
        database.unlink()

    stack.start()
    try:
        async with plain_client(timeout=STACK_HANG) as http:
            after = await quoted(Desk(stack, http), symbols, before)
            assert set(after) == symbols
            command(stack, "audit")
    finally:
        assert stack.stop() == 0, stack.output()
