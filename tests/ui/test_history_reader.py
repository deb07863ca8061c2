"""What a symbol showed and executed lately, read from a real log."""

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


async def asked(page: Page, symbol: str = "AAA") -> Any:
    answer = await page.client.get(f"/history/{symbol}")
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
async def page(page: Page) -> Page:
    await eventually(lambda: not {part.name for part in page.health.report().waiting_for} - {"exposure"})
    return page


async def test_a_symbols_past_is_all_that_its_log_says_of_the_last_minutes(
    page: Page, broker: Broker, feed: Feed
) -> None:
    assert (await asked(page))["spans"] == []
    await feed.quote("AAA")
    await feed.fills("AAA", 2, remaining_bid_quantity=10, remaining_ask_quantity=0)
    await feed.quote("BBB")
    shard = subjects.shard_of("AAA", broker.market.shards)
    for subject in (subjects.quotes(shard, "AAA"), subjects.fills(shard, "AAA")):
        await feed.put(subjects.market_stream(shard), subject, b"nonsense")
    await feed.quote("AAA", position_version=2)

    told = await asked(page)
    assert [[*span[2:]] for span in told["spans"]] == [
        ["99.90", "100.10", "AAA-v0-a1"],
        ["99.90", None, "AAA-v0-a1"],
        ["99.90", "100.10", "AAA-v2-a1"],
    ]
    assert [fill[4] for fill in told["fills"]] == [1, 2]
    assert timedelta(milliseconds=told["spans"][0][0] - told["since"]) > history_reader.BACK / 2


async def test_of_a_busy_symbol_the_newest_is_told_and_since_when_that_is(
    page: Page, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 9):
        await feed.fills("AAA", number)
    monkeypatch.setattr(history_reader, "MOST", 3)
    told = await asked(page)
    assert len(told["fills"]) <= 3
    monkeypatch.undo()
    assert [fill[4] for fill in (await asked(page))["fills"]] == list(range(1, 9))


@pytest.mark.parametrize(("symbol", "status"), [("NEVER", 200), ("no symbol", 400), ("a.b", 400), ("*", 400)])
async def test_whatever_is_asked_for_nothing_but_a_symbol_gets_to_the_broker(
    page: Page, symbol: str, status: int
) -> None:
    assert (await page.client.get(f"/history/{symbol}")).status_code == status


async def test_what_cannot_be_read_now_is_refused_and_so_is_too_much_at_once(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_reader, "TIMEOUT", 0.05)
    held = asyncio.Event()

    async def never(*_: object) -> None:
        await held.wait()

    monkeypatch.setattr(history_reader, "newest", never)
    answers = await asyncio.gather(
        *(page.service.recall.history("AAA") for _ in range(history_reader.WAITING + 1)), return_exceptions=True
    )
    refusals = [answer.refusal for answer in answers if isinstance(answer, Refused)]
    assert Counter(refusals) == {Refusal.UNAVAILABLE: history_reader.WAITING, Refusal.OVERLOADED: 1}
