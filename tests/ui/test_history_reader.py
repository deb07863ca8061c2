"""A symbol's recent history, read from a real log."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from support.broker import Broker
from support.page import Feed, Page
from support.waiting import eventually
from ui import history_reader
from wire import subjects
from wire.errors import Refusal, Refused


async def read_history(page: Page, symbol: str = "AAA") -> Any:
    response = await page.client.get(f"/history/{symbol}")
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture
async def page(page: Page) -> Page:
    await eventually(lambda: not {part.name for part in page.health.report().waiting_for} - {"exposure"})
    return page


async def test_a_history_is_complete_for_the_last_minutes_of_the_log(page: Page, broker: Broker, feed: Feed) -> None:
    assert (await read_history(page))["spans"] == []
    await feed.quote("AAA")
    await feed.fills("AAA", 2, remaining_bid_quantity=10, remaining_ask_quantity=0)
    await feed.quote("BBB")
    shard = subjects.shard_of("AAA", broker.market.shards)
    for subject in (subjects.quotes(shard, "AAA"), subjects.fills(shard, "AAA")):
        await feed.put(subjects.market_stream(shard), subject, b"nonsense")
    await feed.quote("AAA", position_version=2)

    history = await read_history(page)
    assert [[*span[2:]] for span in history["spans"]] == [
        ["99.90", "100.10", "AAA-v0-a1"],
        ["99.90", None, "AAA-v0-a1"],
        ["99.90", "100.10", "AAA-v2-a1"],
    ]
    assert [fill[4] for fill in history["fills"]] == [1, 2]
    assert timedelta(milliseconds=history["spans"][0][0] - history["since"]) > history_reader.LOOKBACK / 2


async def test_the_history_of_a_busy_symbol_begins_later(
    page: Page, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 9):
        await feed.fills("AAA", number)
    monkeypatch.setattr(history_reader, "MAX_MESSAGES", 3)
    history = await read_history(page)
    assert len(history["fills"]) <= 3
    monkeypatch.undo()
    assert [fill[4] for fill in (await read_history(page))["fills"]] == list(range(1, 9))


@pytest.mark.parametrize(("symbol", "status"), [("NEVER", 200), ("no symbol", 400), ("a.b", 400), ("*", 400)])
async def test_only_a_symbol_ever_reaches_the_broker(page: Page, symbol: str, status: int) -> None:
    assert (await page.client.get(f"/history/{symbol}")).status_code == status


async def test_too_many_requests_and_a_broker_that_is_too_slow_are_refused(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_reader, "TIMEOUT", 0.05)
    held = asyncio.Event()

    async def never(*_: object) -> None:
        await held.wait()

    monkeypatch.setattr(history_reader, "newest", never)
    responses = await asyncio.gather(
        *(page.service.history_reader.history("AAA") for _ in range(history_reader.MAX_PENDING + 1)),
        return_exceptions=True,
    )
    refusals = [response.refusal for response in responses if isinstance(response, Refused)]
    assert Counter(refusals) == {Refusal.UNAVAILABLE: history_reader.MAX_PENDING, Refusal.OVERLOADED: 1}
