"""Setting clocks while a process runs."""

import asyncio
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chaos import clocks
from chaos.clocks import Clocks, NoClocks
from process.clock import uptime
from support.waiting import HANG, finishes

ASKS = """
import sys, time
for _ in sys.stdin: print(time.time(), time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME), flush=True)
"""


async def test_a_clock_is_wrong_and_right_again_while_its_process_runs(tmp_path: Path) -> None:
    try:
        made = Clocks(tmp_path / "clocks", ["exchange", "maker"])
    except NoClocks as why:
        pytest.skip(str(why))
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-c", ASKS],
        env={**os.environ, **made.environment("exchange")},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    for ahead in (0.0, 300.0, -5.5, 0.0):
        made.set("exchange", ahead)
        made.set("maker", 77.0)
        before, steady_before, up_before = datetime.now(UTC).timestamp(), time.monotonic(), uptime()
        process.stdin.write(b"\n")
        shown, steady, up = map(float, (await finishes(process.stdout.readline())).split())
        assert before + ahead - 0.001 <= shown <= datetime.now(UTC).timestamp() + ahead + 0.001
        assert steady_before <= steady <= time.monotonic()
        assert up_before <= up <= uptime()
    process.stdin.close()
    await finishes(process.wait(), HANG)


def test_without_the_library_the_error_names_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "LIBRARIES", (str(tmp_path),))
    with pytest.raises(NoClocks, match="package faketime"):
        Clocks(tmp_path / "clocks", ["exchange"])
