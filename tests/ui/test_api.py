"""The routes: the page's files, and who may read the stream."""

from typing import Any, cast

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from support.page import Page
from support.waiting import eventually


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html"),
        ("/app.js", "text/javascript"),
        ("/stream.js", "text/javascript"),
        ("/style.css", "text/css"),
        ("/favicon.svg", "image/svg+xml"),
    ],
)
async def test_files_come_with_their_type_and_strict_headers(page: Page, path: str, media_type: str) -> None:
    response = await page.client.get(path)

    assert response.status_code == 200
    assert response.headers["content-type"].startswith(media_type)
    assert response.headers["x-content-type-options"] == "nosniff"
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'")
    assert "unsafe" not in policy


async def test_a_file_is_sent_again_only_if_it_changed(page: Page) -> None:
    first = await page.client.get("/app.js")
    assert first.headers["cache-control"] == "no-cache"

    again = await page.client.get("/app.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")

    other = await page.client.get("/app.js", headers={"If-None-Match": '"other"'})
    assert other.status_code == 200


@pytest.mark.parametrize("path", ["/index.html", "/../api.py", "/%2e%2e/api.py", "/nothing.js"])
async def test_nothing_else_is_served(page: Page, path: str) -> None:
    assert (await page.client.get(path)).status_code == 404


async def test_another_sites_page_may_not_read_the_stream(page: Page) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(page.stream_url, origin=cast("Any", "http://elsewhere.example")):
            pass
    assert refused.value.response.status_code == 403


async def test_our_own_page_may_read_the_stream(page: Page) -> None:
    async with connect(page.stream_url, origin=cast("Any", page.url)) as socket:
        assert await socket.recv()


async def test_a_reader_that_sends_something_is_disconnected(page: Page) -> None:
    async with connect(page.stream_url) as socket:
        await socket.send("hello")
        with pytest.raises(ConnectionClosed):
            await _all_frames(socket)


async def test_the_number_of_connected_readers_is_a_metric(page: Page) -> None:
    async def clients() -> float:
        metrics = (await page.client.get("/metrics")).text
        (line,) = [line for line in metrics.splitlines() if line.startswith("ui_websocket_clients ")]
        return float(line.split()[1])

    before = await clients()
    async with connect(page.stream_url) as socket:
        await socket.recv()
        assert await clients() == before + 1
    await eventually(lambda: _is(clients, before))


async def _all_frames(socket: ClientConnection) -> None:
    while True:
        await socket.recv()


async def _is(ask: Any, value: float) -> bool:
    return bool(await ask() == value)
