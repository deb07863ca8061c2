"""Streaming to readers: none can hold us up."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest

from runtime import streaming


async def test_a_reader_that_makes_no_room_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its frames end with it, so that nothing is kept for it."""
    ended = asyncio.Event()

    async def frames() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"{}"
        finally:
            ended.set()

    class StuckSocket:
        async def send_data(self, frame: bytes) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(streaming, "SEND_TIMEOUT", 0.05)
    async with asyncio.timeout(1):
        await streaming._send(cast("Any", StuckSocket()), frames())
    assert ended.is_set()
