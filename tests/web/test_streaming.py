"""Streaming to readers: none can delay the service."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import Gauge

from support.access import auth_headers, token_folder
from support.waiting import finishes, passes
from web import streaming, tokens
from web.access import Access
from web.roles import Role


async def test_a_reader_that_blocks_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its source of frames is closed, so that nothing is kept for it."""
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
    await finishes(streaming._send(cast("Any", StuckSocket()), frames()))
    assert ended.is_set()


async def test_a_stream_ends_when_its_token_is_revoked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(streaming, "CHECK_INTERVAL", 0.05)
    monkeypatch.setattr(tokens, "RELOAD_INTERVAL", 0.0)
    folder = token_folder(tmp_path / "tokens")
    closed: list[int] = []

    class Socket:
        app = SimpleNamespace(state=SimpleNamespace(access=Access(tokens.Tokens(folder))))
        scope = MappingProxyType({"headers": [(b"authorization", auth_headers(Role.READER)["Authorization"].encode())]})

        async def close(self, code: int, _: str) -> None:
            closed.append(code)

    expiring = asyncio.create_task(streaming._until_token_is_invalid(cast("Any", Socket())))
    await passes(0.2)
    assert not expiring.done()
    (folder / Role.READER).unlink()
    await finishes(expiring)
    assert closed == [1008]


async def test_an_exception_in_the_frames_ends_the_stream_and_is_raised() -> None:
    async def frames() -> AsyncGenerator[bytes, None]:
        yield b"{}"
        raise RuntimeError("a row that cannot be written")

    class Socket:
        app = SimpleNamespace(state=SimpleNamespace(access=Access()))
        scope = MappingProxyType({"headers": []})

        async def accept(self) -> None:
            return

        async def send_data(self, frame: bytes) -> None:
            return

        async def receive(self) -> None:
            await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="a row"):
        await finishes(streaming.stream(cast("Any", Socket()), frames(), Gauge("streaming_test", "Readers.")))
