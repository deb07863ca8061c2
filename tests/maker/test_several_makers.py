"""Several makers divide the symbols, and converge if they quote the same one."""

import asyncio

import msgspec
import pytest

from support.broker import Broker
from support.maker import (
    FaultyLink,
    Marketplace,
    RunningMaker,
    quoting,
)
from support.waiting import eventually, reaches
from wire import subjects
from wire.processes import InstancePresence
from wire.subjects import Rpc


async def test_two_makers_converge_on_the_same_quotes(place: Marketplace) -> None:
    """Neither replaces the other's quote: each position is quoted once."""
    await place.open()
    both = [await place.start_maker(), await place.start_maker()]
    for version in range(1, 6):
        await place.move("AAA", version, net_quantity=version)
        await place.quoted("AAA", f"AAA-v{version}-a1")
    for running in both:
        await eventually(lambda running=running: running.on("AAA").state == "quoting")  # type: ignore[misc] # binds
        assert running.on("AAA").quote_id == "AAA-v5-a1"
    made = await place.quote_events("AAA")
    assert len(made) == len({(event.position_version, event.attempt) for event in made}) <= 6
    assert place.fold("BBB").version == (0, 0, 1)


async def test_two_makers_refresh_without_repeating_or_skipping_attempts(place: Marketplace) -> None:
    """Each maker counts the other's attempts."""
    await place.open(quote_ttl=1.0)
    await quoting(place)
    await quoting(place)
    assert [quote.attempt for quote in await place.quoted_anew("AAA", 3)] == [1, 2, 3]


LONG = 3600.0
"""A standby delay in seconds, so long that no test waits for it."""


async def ranked_makers(place: Marketplace, *, standby_delay: float) -> tuple[RunningMaker, RunningMaker]:
    """Start two makers that know of each other. Return the one that is first for AAA, and the other one."""
    one, two = [await quoting(place, standby_delay=standby_delay) for _ in range(2)]
    await eventually(lambda: all(len(maker.maker._presence.members.names) == 2 for maker in (one, two)))
    return (one, two) if one.is_first("AAA") else (two, one)


async def test_two_makers_divide_the_symbols_and_request_only_their_own(place: Marketplace, link: FaultyLink) -> None:
    await place.open()
    first, second = await ranked_makers(place, standby_delay=LONG)
    for symbol in ("AAA", "BBB"):
        own, other = (first, second) if first.is_first(symbol) else (second, first)
        assert not other.is_first(symbol)
        await place.move(symbol, 1)
        await place.quoted(symbol, f"{symbol}-v1-a1")
        await reaches(lambda symbol=symbol, other=other: other.on(symbol).position_version, 1)  # type: ignore[misc] # defaults bind
        for subject in (Rpc.RESERVE, Rpc.PUT_QUOTE):
            quote_id = f"{symbol}-v1-a1".encode()
            assert any(quote_id in body for body in link.on(subject, own))
            assert not any(quote_id in body for body in link.on(subject, other))


@pytest.mark.parametrize("ends", ["crashes", "stops"])
async def test_when_a_maker_is_gone_the_other_takes_over_its_symbols(place: Marketplace, ends: str) -> None:
    """At once: a maker that is not present is not waited for."""
    await place.open()
    first, second = await ranked_makers(place, standby_delay=LONG)
    await (first.crash() if ends == "crashes" else first.stop())
    await place.move("AAA", 1)
    await place.quoted("AAA", "AAA-v1-a1")
    assert second.is_first("AAA")


async def test_a_present_maker_that_does_not_quote_is_replaced_after_a_wait(place: Marketplace, broker: Broker) -> None:
    await place.open()
    running = await quoting(place, standby_delay=0.3)

    async def pretend() -> None:
        """Announce so many makers that one of them is first for a symbol."""
        while True:
            for number in range(8):
                payload = msgspec.json.encode(InstancePresence(instance=f"idle-{number}"))
                await broker.connection.publish(subjects.MAKER_PRESENCE, payload)
            await broker.connection.publish(subjects.MAKER_PRESENCE, b"undecodable")
            await asyncio.sleep(0.1)

    pretending = asyncio.create_task(pretend())
    await eventually(lambda: len(running.maker._presence.members.names) == 9)
    symbol = next((symbol for symbol in ("AAA", "BBB") if not running.is_first(symbol)), "AAA")
    await place.move(symbol, 1)
    await place.quoted(symbol, f"{symbol}-v1-a1")
    pretending.cancel()


async def test_only_the_first_maker_of_a_symbol_prefetches(place: Marketplace, link: FaultyLink) -> None:
    await place.open()
    first, second = await ranked_makers(place, standby_delay=LONG)
    await place.trade("AAA", 1)
    await reaches(lambda: second.maker._quoters["AAA"].view.market.fill_number, 1)
    await eventually(lambda: any(b"AAA-v1-a1" in body for body in link.on(Rpc.RESERVE, first)))
    assert not any(b"AAA-v1-a1" in body for body in link.on(Rpc.RESERVE, second))
