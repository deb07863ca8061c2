"""Quotes' stories: a command in a process of its own, one at a time, with a timeout."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from support.waiting import HANG, eventually
from ui.explain import MAX_PENDING, Explainer
from wire.errors import Refusal, Refused


def explainer_of(script: str, timeout: float = HANG) -> Explainer:
    """An explainer whose command is this script; the quote's id is `sys.argv[1]`."""
    return Explainer((sys.executable, "-c", f"import os, sys, time\n{script}"), timeout)


async def refusal_of(explainer: Explainer) -> Refused:
    with pytest.raises(Refused) as refused:
        await explainer.story("AAA-v1-a1")
    return refused.value


async def test_a_story_is_the_output_of_the_command() -> None:
    assert await explainer_of("print('{\"quote_id\":', sys.argv[1] + '}', end='')").story("AAA-v1-a1") == (
        b'{"quote_id": AAA-v1-a1}'
    )


@pytest.mark.parametrize(("code", "refusal"), [(1, Refusal.NOT_FOUND), (2, Refusal.UNAVAILABLE)])
async def test_an_error_of_the_command_is_passed_on(code: int, refusal: Refusal) -> None:
    refused = await refusal_of(explainer_of(f"print('no such quote', file=sys.stderr); sys.exit({code})"))
    assert (refused.refusal, refused.detail) == (refusal, "no such quote")


async def test_a_command_that_takes_too_long_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[asyncio.subprocess.Process] = []
    create = asyncio.create_subprocess_exec

    async def noting(*command: str, **options: Any) -> asyncio.subprocess.Process:
        started.append(await create(*command, **options))
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noting)
    refused = await refusal_of(explainer_of("time.sleep(1000)", 0.5))

    assert refused.refusal is Refusal.UNAVAILABLE
    assert "./qs explain AAA-v1-a1" in refused.detail
    assert [process.returncode for process in started] == [-signal.SIGKILL]


async def test_a_command_is_killed_when_its_caller_is_cancelled(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    explainer = explainer_of(f"open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(1000)")
    request = asyncio.create_task(explainer.story("AAA-v1-a1"))
    number = int(await eventually(lambda: pid.is_file() and pid.read_text()))

    request.cancel()
    await asyncio.wait([request])
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


async def test_stories_are_made_one_after_the_other_and_too_many_requests_are_refused(tmp_path: Path) -> None:
    """The script fails if another runs at the same time."""
    lock = str(tmp_path / "lock")
    explainer = explainer_of(f"os.mkdir({lock!r}); time.sleep(0.05); os.rmdir({lock!r})")
    requests = [asyncio.create_task(explainer.story("AAA-v1-a1")) for _ in range(MAX_PENDING)]
    await asyncio.sleep(0)

    assert (await refusal_of(explainer)).refusal is Refusal.OVERLOADED
    assert await asyncio.gather(*requests) == [b""] * MAX_PENDING
    assert await explainer.story("AAA-v1-a1") == b""
