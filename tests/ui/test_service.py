"""The service: the frames that a reader receives, on a real broker."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect

from jet.switch_log import KEY, STREAM
from support.broker import Broker
from support.definitions import redefine, seed
from support.page import Feed, Page, served
from support.waiting import HANG, eventually
from ui.unquoted import REASON_TEXTS
from wire import subjects

pytestmark = pytest.mark.long

Frame = dict[str, Any]


class Reader:
    """A reader that keeps the rows that a page would show."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.rows: dict[str, Frame] = {}
        self.frame: Frame = {}

    async def next(self) -> Frame:
        """Receive a frame, and take its rows."""
        self.frame = msgspec.json.decode(await self.socket.recv())
        if self.frame["type"] == "snapshot":
            self.rows = {}
        self.rows |= {row["symbol"]: row for row in self.frame["rows"]}
        return self.frame

    async def until(self, ask: Callable[[], bool]) -> None:
        """Receive frames until the condition holds."""
        async with asyncio.timeout(HANG):
            while not ask():
                await self.next()

    async def snapshot(self) -> Frame:
        """Receive frames until the snapshot."""
        await self.until(lambda: self.frame.get("type") == "snapshot")
        return self.frame


@asynccontextmanager
async def reading(page: Page) -> AsyncIterator[Reader]:
    async with connect(page.stream_url) as socket:
        yield Reader(socket)


async def test_a_reader_first_gets_every_row(broker: Broker, feed: Feed) -> None:
    await feed.position("AAA", -7, 12, side="buy", quantity=3, price=Decimal("100.10"))
    await feed.quote("AAA", position_version=12, bid_quantity=8)
    await feed.fills("AAA", 12, remaining_bid_quantity=8, remaining_ask_quantity=4)

    async with served(broker) as page, reading(page) as reader:
        snapshot = await reader.snapshot()

    assert reader.rows.keys() == {"AAA", "BBB"}
    row = reader.rows["AAA"]
    assert (row["net_quantity"], row["position_version"]) == (-7, 12)
    assert row["last_fill"] == {"side": "buy", "quantity": 3, "price": "100.10"}
    assert row["quote_state"] == "active"
    assert (row["quote"]["bid_remaining"], row["quote"]["bid_quantity"]) == (8, 8)
    assert (row["quote"]["ask_remaining"], row["quote"]["ask_quantity"]) == (4, 10)
    assert snapshot["history"]["AAA"] == [-7]
    assert reader.rows["BBB"]["quote_state"] == "never"


async def test_changes_arrive_live_as_complete_rows(page: Page, feed: Feed) -> None:
    async with reading(page) as reader:
        await reader.snapshot()

        await feed.position("BBB", 5, 1, side="sell")
        await reader.until(lambda: reader.rows["BBB"]["net_quantity"] == 5)
        assert reader.frame["type"] == "update"
        assert [row["symbol"] for row in reader.frame["rows"]] == ["BBB"]

        await feed.quote("BBB", position_version=1)
        await reader.until(lambda: reader.rows["BBB"]["quote_state"] == "active")
        await feed.withdraw("BBB")
        await reader.until(lambda: reader.rows["BBB"]["quote_state"] == "withdrawn")


async def test_a_reader_gets_the_last_fills_of_each_symbol_and_then_every_new_one(page: Page, feed: Feed) -> None:
    await eventually(lambda: "market" not in {part.name for part in page.health.report().waiting_for})
    for number in range(1, 13):
        await feed.fills("AAA", number)
    await feed.fills("BBB", 1)
    async with reading(page) as reader:
        await reader.until(lambda: reader.rows.get("BBB", {}).get("fills_recorded") == 1)
    async with reading(page) as reader:
        snapshot = await reader.snapshot()
        numbers = sorted((fill["symbol"], fill["number"]) for fill in snapshot["fills"])
        assert numbers == [*(("AAA", number) for number in range(3, 13)), ("BBB", 1)]

        await feed.fills("BBB", 2, side="sell", quantity=3)
        await reader.until(lambda: reader.rows["BBB"]["fills_recorded"] == 2)
        (fill,) = reader.frame["fills"]
        assert (fill["symbol"], fill["number"], fill["side"], fill["quantity"]) == ("BBB", 2, "sell", 3)
        assert fill["quote_id"] == "BBB-v0-a1"


async def test_many_changes_are_conflated_and_end_with_the_newest(
    page: Page, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ui.service.FRAME_INTERVAL", 0.5)  # long enough for a slow machine to store several
    async with reading(page) as reader:
        await reader.snapshot()
        versions: list[int] = []
        publishing = asyncio.gather(*(feed.position("AAA", version, version) for version in range(1, 201)))
        while reader.rows["AAA"]["position_version"] < 200:
            await reader.next()
            versions.append(reader.rows["AAA"]["position_version"])
        await publishing

    assert len(set(versions)) < 100
    assert reader.rows["AAA"]["net_quantity"] == 200


async def test_a_reader_gets_heartbeats_while_nothing_changes(page: Page) -> None:
    async with reading(page) as reader:
        await reader.snapshot()
        await reader.until(lambda: reader.frame["type"] == "heartbeat")
        assert reader.frame["rows"] == []
        assert reader.frame["processes"] is None


async def test_profit_over_time_is_complete_at_first_and_then_comes_point_by_point(page: Page, feed: Feed) -> None:
    def profits(points: list[list[Any]]) -> set[float]:
        return {point[1] for point in points}

    async with reading(page) as reader:
        first = await reader.snapshot()
        points = list(first["trend"][0]["points"])
        await feed.position("AAA", 0, 1, realized="7.25")

        def has_come() -> bool:
            points.extend(point for point in reader.frame["points"] if point[0] > (points[-1][0] if points else 0))
            return 7.25 in profits(points)

        await reader.until(has_come)
    async with reading(page) as later:
        fine, coarse = (await later.snapshot())["trend"]
    assert fine["points"][: len(points)] == points
    assert (fine["step"], coarse["step"]) == (1, 15)
    assert {0.0, 7.25} <= profits(fine["points"])


async def test_processes_are_sent_when_they_answer_and_again_only_when_they_change(page: Page, feed: Feed) -> None:
    def state_of(frame: Frame, name: str) -> str | None:
        return next((process["state"] for process in frame["processes"] or () if process["name"] == name), None)

    async with reading(page) as reader:
        await reader.snapshot()
        async with feed.process("maker", "maker-2", unquoted={"no_price": ["AAA"]}):
            reason = {"symbols": {"AAA": REASON_TEXTS["no_price"]}, "others": ""}
            await reader.until(lambda: reader.frame["unquoted"] == reason)
            async with reading(page) as later:
                snapshot = await later.snapshot()
            assert state_of(snapshot, "maker-2") == "ready"
            assert state_of(snapshot, "ui") in ("ready", "waiting")
            assert [each["state"] for each in snapshot["processes"] if each["service"] == "nats"] == ["ready"]
            assert snapshot["unquoted"] == reason
        await reader.until(lambda: state_of(reader.frame, "maker-2") == "gone")


async def test_a_change_of_an_instrument_changes_its_row(broker: Broker, page: Page) -> None:
    await seed(broker.connection, broker.market)
    async with reading(page) as reader:
        await reader.snapshot()
        assert (reader.rows["BBB"]["instrument"], reader.rows["BBB"]["largest"]) == ("trading", None)
        await redefine(broker.connection, "BBB", state="paused", max_position=7)
        await reader.until(lambda: reader.rows["BBB"]["instrument"] == "paused")
        assert reader.frame["type"] == "update"
        assert reader.rows["BBB"]["largest"] == 7


async def test_orders_per_second_are_sent_by_outcome(page: Page, feed: Feed) -> None:
    orders = {"filled": 100, "not_marketable": 10}
    async with reading(page) as reader, feed.process("exchange", "exchange", orders=orders):
        await reader.until(lambda: reader.frame.get("processes") is not None)
        await reader.until(lambda: any(process["name"] == "exchange" for process in reader.frame["processes"] or ()))
        orders |= {"filled": 1100, "no_active_quote": 40}
        await reader.until(lambda: (reader.frame["answered"] or {}).keys() == {"filled", "no_active_quote"})
        answered = reader.frame["answered"]
        assert answered["filled"] > answered["no_active_quote"] > 0


async def test_the_kill_switch_is_sent_with_who_set_it_and_when(page: Page, feed: Feed) -> None:
    def shown(reader: Reader) -> Frame:
        return reader.frame.get("status", {}).get("switch") or {}

    async with reading(page) as reader:
        await reader.until(lambda: bool(shown(reader)))
        assert shown(reader) == {"current": True, "paused": False, "at": None, "by": ""}
        await feed.put(STREAM, KEY, b"no turn")
        at = await feed.turn(paused=True, by="desk")
        await reader.until(lambda: bool(shown(reader)["paused"]))
        switch = shown(reader)
        assert (switch["by"], datetime.fromisoformat(switch["at"])) == ("desk", at)


async def test_usage_is_sent_while_the_exposure_service_answers(page: Page, feed: Feed) -> None:
    async with reading(page) as reader:
        await reader.snapshot()
        assert reader.frame["status"]["usage"] is None

        async with feed.exposure():
            await reader.until(lambda: reader.frame["status"]["usage"] is not None)
            assert reader.frame["status"]["usage"] == {"limit": 100, "bid": 60, "ask": 40}
            await eventually(lambda: page.health.ready)

        await reader.until(lambda: reader.frame["status"]["usage"] is None)
        exposure = reader.frame["status"]["exposure"]
        assert not exposure["current"]
        assert exposure["detail"]


async def test_sources_are_stale_while_the_broker_is_away_and_current_again_after(own_broker: Broker) -> None:
    feed = Feed(own_broker)
    async with served(own_broker) as page, reading(page) as reader:
        await reader.snapshot()

        own_broker.server.kill()
        await reader.until(lambda: not reader.frame["status"]["positions"]["current"])
        await reader.until(lambda: not reader.frame["status"]["market"]["current"])
        assert not page.health.ready

        own_broker.server.start()
        await reader.until(lambda: reader.frame["status"]["positions"]["current"])
        await reader.until(lambda: reader.frame["status"]["market"]["current"])
        await eventually(lambda: own_broker.connection.connected)
        await feed.position("AAA", 3, 1)
        await reader.until(lambda: reader.rows["AAA"]["net_quantity"] == 3)


async def test_an_invalid_message_is_skipped_and_hides_nothing(page: Page, feed: Feed) -> None:
    async with reading(page) as reader:
        await reader.snapshot()
        await feed.put(subjects.POSITIONS_STREAM, subjects.position("AAA"), b'{"symbol": "AAA"}')
        await feed.put(subjects.POSITIONS_STREAM, subjects.position("AAA"), b"\xff")
        await feed.position("AAA", 2, 1)

        await reader.until(lambda: reader.rows["AAA"]["net_quantity"] == 2)


async def test_a_reader_gets_no_rows_before_the_service_has_read_them(broker: Broker) -> None:
    """A row that is not read yet would look flat. Here one shard of the market log is missing."""
    broker.market = msgspec.structs.replace(broker.market, shards=3)
    async with served(broker) as page, reading(page) as reader:
        for _ in range(2):
            frame = await reader.next()
            assert frame["type"] == "heartbeat"
        await reader.until(lambda: reader.frame["status"]["positions"]["current"])
        assert reader.rows == {}
        assert reader.frame["status"]["market"]["detail"].endswith("2")


async def test_the_page_is_ready_without_any_position(page: Page, feed: Feed) -> None:
    async with feed.exposure():
        await eventually(lambda: page.health.ready)


async def test_an_invalid_last_message_of_a_subject_does_not_hide_the_one_before_it(broker: Broker, feed: Feed) -> None:
    await feed.position("AAA", -7, 12)
    await feed.quote("AAA", position_version=12)
    await feed.fills("AAA", 12, remaining_bid_quantity=8, remaining_ask_quantity=4)
    shard = subjects.shard_of("AAA", broker.market.shards)
    await feed.put(subjects.POSITIONS_STREAM, subjects.position("AAA"), b"nonsense")
    for kind in ("quotes", "fills"):
        await feed.put(subjects.market_stream(shard), f"{kind}.{shard}.AAA", b"nonsense")
    async with served(broker) as page, reading(page) as reader:
        await reader.snapshot()
    row = reader.rows["AAA"]
    assert (row["net_quantity"], row["fills_recorded"], row["quote"]["ask_remaining"]) == (-7, 12, 4)
