"""How tests wait: for the event they mean. A timeout here only ends a hang; no test is about how long something takes.

| what is meant | |
| --- | --- |
| it becomes so, and stays so | `eventually(lambda: service.ready)` |
| a version or a count that others move on, too | `reaches(lambda: ledger.version, 3)`: 3 or more |
| a process, a task or an answer comes to its end | `finishes(process.wait())` |
| some time passes, by the clock that the code asks | `passes(0.5)`: at least that, perhaps much more |
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

HANG = 60.0
"""Seconds after which what happens in a test's own process, or in one that it started, counts as hanging."""

STACK_HANG = 120.0
"""The same for a whole stack, a cluster or a browser: many processes that share the machine's processors."""

T = TypeVar("T")
V = TypeVar("V", int, float)


async def eventually(ask: Callable[[], T | Awaitable[T]], timeout: float = HANG, pause: float | None = None) -> T:
    """Ask until the answer is truthy and return it. Fails with the last answer, or re-raises the last error.

    Between two looks it waits for `pause` seconds: where whole stacks take part, longer, as looking takes their time.

    What is asked for must not be passed by between two looks: of a value that others move on, ask `reaches`.
    """
    deadline = time.monotonic() + timeout
    pause = pause if pause is not None else 0.01 if timeout < STACK_HANG else 0.05
    while True:
        answer: Any = None
        error: Exception | None = None
        try:
            asked = ask()
            answer = await asked if inspect.isawaitable(asked) else asked
        except Exception as raised:  # noqa: BLE001 # whatever it is, it may pass
            error = raised
        if answer:
            return answer  # type: ignore[no-any-return] # it is a T
        if time.monotonic() > deadline:
            if error is not None:
                raise error
            raise AssertionError(f"still {answer!r} after {timeout} s")
        await asyncio.sleep(pause)


async def reaches(ask: Callable[[], V | Awaitable[V | None] | None], least: V, timeout: float = HANG) -> V:
    """Ask until the answer is `least` or more, and return it: the value may have gone on since."""
    seen: V | None = None

    async def there() -> bool:
        nonlocal seen
        asked = ask()
        seen = await asked if inspect.isawaitable(asked) else asked
        return seen is not None and seen >= least

    try:
        await eventually(there, timeout)
    except AssertionError:
        raise AssertionError(f"still {seen!r}, and not yet {least!r}, after {timeout} s") from None
    assert seen is not None
    return seen


async def finishes(what: Awaitable[T], timeout: float = HANG) -> T:
    """What comes of it, or what it raises; fails if it hangs."""
    return await asyncio.wait_for(what, timeout)


async def passes(seconds: float) -> None:
    """Let time pass, where time itself is what the code under test looks at. It may be much more: allow for that."""
    await asyncio.sleep(seconds)
