"""Latest-value fan-out: a slow reader skips values, never the last one."""

import asyncio

from web.fanout import Fanout


async def test_a_reader_receives_the_newest_row_of_each_key_once() -> None:
    fanout: Fanout[int] = Fanout()
    with fanout.subscribe() as reader:
        for value in range(3):
            fanout.publish("a", value)
        fanout.publish("b", 7)
        assert await reader.take() == [2, 7]
        waiting = asyncio.create_task(reader.take())
        await asyncio.sleep(0)
        assert not waiting.done()
        fanout.publish("a", 9)
        assert await waiting == [9]


async def test_a_late_reader_finds_the_current_rows() -> None:
    fanout: Fanout[int] = Fanout()
    fanout.publish("a", 1)
    with fanout.subscribe() as reader:
        assert fanout.rows == {"a": 1}
        fanout.publish("a", 2)
        assert await reader.take() == [2]


async def test_a_subscription_ends_with_its_block() -> None:
    fanout: Fanout[int] = Fanout()
    with fanout.subscribe():
        pass
    assert not fanout._subscriptions
