"""An HTTP server of a test leaves nothing behind for later tests, even if its test fails."""

import asyncio

import pytest

from process.health import Health
from support.broker import free_port
from support.http import plain_client, served
from web.app import create_app


async def test_after_a_test_that_fails_the_next_server_answers() -> None:
    app = create_app(title="t", description="d", health=Health("test"), routes=[])
    before = asyncio.all_tasks()
    with pytest.raises(ZeroDivisionError):
        async with served(app):
            raise ZeroDivisionError
    assert asyncio.all_tasks() == before
    port = free_port()
    async with served(app, port=port), plain_client(f"http://127.0.0.1:{port}") as client:
        assert (await client.get("/health")).status_code == 200
