"""Waiting for something to become so, with a deadline instead of a sleep."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def eventually(ask: Callable[[], T | Awaitable[T]], timeout: float = 15.0, pause: float = 0.01) -> T:
    """Ask until the answer is truthy and return it. Fails with the last answer, or re-raises the last error."""
    deadline = time.monotonic() + timeout
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
