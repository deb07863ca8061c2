"""How tests wait: for an event. A timeout here only ends a hang; no test asserts how long something takes.

| to wait until | |
| --- | --- |
| a condition becomes true and stays true | `eventually(lambda: service.ready)` |
| a version or a count that others increase, too, reaches a value | `reaches(lambda: ledger.version, 3)`: 3 or more |
| a process, a task or a request ends | `finishes(process.wait())` |
| time has passed by the clock that the code reads | `passes(0.5)`: at least that long, perhaps much longer |
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

HANG = 60.0
"""Seconds after which a wait for a test's own process, or one that it started, counts as a hang."""

STACK_HANG = 120.0
"""The same for a whole stack, a cluster or a browser, whose many processes share the machine's processors."""

T = TypeVar("T")
V = TypeVar("V", int, float)


async def eventually(poll: Callable[[], T | Awaitable[T]], timeout: float = HANG, pause: float | None = None) -> T:
    """Poll until the result is truthy, and return it. After `timeout` seconds, fail with the last result or error.

    It sleeps for `pause` seconds between polls; by default longer for whole stacks, because polling takes processor
    time from them.

    A condition that may become false again can be missed between two polls: for a growing value, use `reaches`.
    """
    deadline = time.monotonic() + timeout
    pause = pause if pause is not None else 0.01 if timeout < STACK_HANG else 0.1
    while True:
        result: Any = None
        error: Exception | None = None
        try:
            polled = poll()
            result = await polled if inspect.isawaitable(polled) else polled
        except Exception as raised:  # noqa: BLE001 # any error may be temporary
            error = raised
        if result:
            return result  # type: ignore[no-any-return] # it is a T
        if time.monotonic() > deadline:
            if error is not None:
                raise error
            raise AssertionError(f"still {result!r} after {timeout} s")
        await asyncio.sleep(pause)


async def reaches(poll: Callable[[], V | Awaitable[V | None] | None], least: V, timeout: float = HANG) -> V:
    """Poll until the result is `least` or more, and return it. The value may have grown further since."""
    seen: V | None = None

    async def reached() -> bool:
        nonlocal seen
        polled = poll()
        seen = await polled if inspect.isawaitable(polled) else polled
        return seen is not None and seen >= least

    try:
        await eventually(reached, timeout)
    except AssertionError:
        raise AssertionError(f"still {seen!r}, and not yet {least!r}, after {timeout} s") from None
    assert seen is not None
    return seen


async def finishes(what: Awaitable[T], timeout: float = HANG) -> T:
    """Await, and return the result. Fail if it hangs."""
    return await asyncio.wait_for(what, timeout)


async def passes(seconds: float) -> None:
    """Let time pass, if the code under test reads a clock. It may take much longer: the test must allow for that."""
    await asyncio.sleep(seconds)
