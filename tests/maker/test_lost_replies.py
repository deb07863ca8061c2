"""Lost requests and replies, restarts and outages: a maker retries, or continues from the logs."""

import msgspec

from jet import journal
from support.broker import Broker
from support.maker import (
    FaultyLink,
    Marketplace,
    marketplace,
    quoting,
)
from support.waiting import eventually, reaches
from wire import subjects
from wire.quotes import PutQuote
from wire.reservations import ReservationRequest
from wire.subjects import Rpc


async def test_an_unanswered_request_is_resent_unchanged(place: Marketplace, link: FaultyLink) -> None:
    await place.open()
    link.lose[Rpc.RESERVE] = 2
    link.drop[Rpc.PUT_QUOTE] = 2
    running = await quoting(place)
    for subject, kind in ((Rpc.RESERVE, ReservationRequest), (Rpc.PUT_QUOTE, PutQuote)):
        bodies = link.on(subject)
        assert len(bodies) > len(set(bodies)) == 2, subject
        assert all(msgspec.json.decode(body, type=kind) for body in bodies)
    assert {place.fold(symbol).version for symbol in ("AAA", "BBB")} == {(0, 0, 1)}
    assert running.on("AAA").quote_id == "AAA-v0-a1"


async def test_a_quote_whose_reply_is_lost_is_found_in_the_market_log(place: Marketplace, link: FaultyLink) -> None:
    await place.open()
    link.lose[Rpc.PUT_QUOTE] = 1000
    running = await quoting(place)
    await eventually(lambda: running.on("AAA").state == "quoting")
    assert len(link.on(Rpc.PUT_QUOTE)) == 2
    assert link.on(Rpc.RELEASE) == []


async def test_a_new_position_between_grant_and_quote_starts_a_new_attempt(
    place: Marketplace, link: FaultyLink
) -> None:
    await place.open()
    running = await quoting(place)

    async def moves() -> None:
        await reaches(lambda: place.fold("AAA").fill_number, 1)
        await place.move("AAA", 2)
        await reaches(lambda: running.on("AAA").position_version, 2)

    link.before[Rpc.RESERVE] = moves
    await place.move("AAA", 1)
    await place.quoted("AAA", "AAA-v2-a1")
    await eventually(lambda: b'{"reservation_id":"AAA-v1-a1-r"}' in link.on(Rpc.RELEASE))
    assert not any(b"AAA-v1-a1" in body for body in link.on(Rpc.PUT_QUOTE))


async def test_a_new_position_replaces_an_unanswered_attempt(place: Marketplace, link: FaultyLink) -> None:
    await place.open()
    await quoting(place)
    link.lose[Rpc.RESERVE] = 1000
    await place.move("AAA", 1)
    await eventually(lambda: any(b"AAA-v1-a1" in body for body in link.on(Rpc.RESERVE)))
    await place.move("AAA", 2)
    await eventually(lambda: any(b"AAA-v2-a1" in body for body in link.on(Rpc.RESERVE)))
    link.lose.clear()
    await place.quoted("AAA", "AAA-v2-a1")


async def test_a_restarted_maker_keeps_the_existing_quotes(place: Marketplace, link: FaultyLink) -> None:
    await place.open()
    await (await quoting(place)).crash()
    before = len(link.sent)
    running = await quoting(place)
    await eventually(lambda: running.on("AAA").state == "quoting" == running.on("BBB").state)
    assert len(link.sent) == before


async def test_a_maker_starts_from_the_last_valid_messages(place: Marketplace, link: FaultyLink) -> None:
    await place.open()
    running = await quoting(place)
    await place.move("AAA", 2, net_quantity=3)
    await place.quoted("AAA", "AAA-v2-a1")
    await running.crash()
    shard = subjects.shard_of("AAA", place.market.shards)
    streams = {f"{kind}.{shard}.AAA": subjects.market_stream(shard) for kind in ("quotes", "fills")}
    for subject, stream in {**streams, subjects.position("AAA"): subjects.POSITIONS_STREAM}.items():
        await journal.put(place.broker.connection, stream, subject, b"nonsense")
    before = len(link.sent)
    running = await quoting(place)
    await eventually(lambda: running.on("AAA").state == "quoting")
    assert (running.on("AAA").position_version, running.on("AAA").net_quantity) == (2, 3)
    assert len(link.sent) == before


async def test_a_maker_survives_an_outage_of_the_broker(own_broker: Broker) -> None:
    async with marketplace(own_broker) as place:
        await place.open()
        running = await quoting(place)
        own_broker.server.kill()
        await eventually(lambda: running.on("AAA").state == "waiting_for_feeds")
        assert not running.health.ready
        own_broker.server.start()
        both = (own_broker.connection, place.exchange._connection)
        await eventually(lambda: running.health.ready and all(one.connected for one in both))
        await place.move("AAA", 1)
        await eventually(lambda: place.fold("AAA").version >= (1, 0, 1))
