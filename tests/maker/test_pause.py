"""The kill switch on real services: all makers pause and resume with it, whatever is unavailable meanwhile."""

import asyncio
import signal
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY

from jet.switch_log import KEY
from maker.switch import Switch
from process.clock import utc_now
from support.broker import Broker
from support.builders import NOW, quote_request
from support.maker import FaultyLink, Marketplace, RunningMaker, marketplace, quoting, reserve, used
from support.waiting import HANG, eventually, reaches
from wire.errors import Refusal, Refused
from wire.quotes import QuoteWithdrawn
from wire.subjects import Rpc
from wire.switches import QuotingSwitch


async def test_pausing_withdraws_everything_and_resuming_quotes_again(place: Marketplace) -> None:
    await place.open()
    running = await quoting(place)
    paused = await running.maker.pause()
    assert paused.paused
    assert [place.quote(symbol) for symbol in ("AAA", "BBB")] == [None, None]
    await place.move("AAA", 1)
    await reaches(lambda: running.on("AAA").position_version, 1)
    await eventually(lambda: running.on("AAA").state == "paused")
    assert not (await running.maker.resume()).paused
    await place.quoted("AAA", "AAA-v1-a1")
    await place.quoted("BBB", "BBB-v0-a2")


async def test_pausing_twice_has_the_effect_of_pausing_once(place: Marketplace) -> None:
    await place.open()
    running = await quoting(place)
    await running.maker.pause()
    events = await place.quote_events("AAA")
    assert (await running.maker.pause()).paused
    assert await place.quote_events("AAA") == events
    assert len(events) == 2


async def test_pausing_withdraws_what_others_quoted(place: Marketplace) -> None:
    await place.open()
    await (await quoting(place)).crash()
    running = await quoting(place)
    await running.maker.pause()
    assert [place.quote(symbol) for symbol in ("AAA", "BBB")] == [None, None]


async def test_one_pause_stops_all_makers_and_one_resume_resumes_all(place: Marketplace) -> None:
    await place.open()
    first, other = await quoting(place), await place.start_maker(standby_delay=0.2)
    await eventually(lambda: other.health.ready)
    await first.maker.pause()
    await eventually(lambda: other.maker.status().paused)
    await first.crash()
    await place.move("AAA", 1)
    await reaches(lambda: other.on("AAA").position_version, 1)
    await eventually(lambda: other.on("AAA").state == "paused")
    assert place.quote("AAA") is None
    await other.maker.resume()
    await place.quoted("AAA", "AAA-v1-a1")


async def test_a_pause_outlives_the_maker(place: Marketplace) -> None:
    await place.open()
    first = await quoting(place)
    await first.maker.pause()
    await first.crash()
    restarted = await place.start_maker()
    await eventually(lambda: restarted.health.ready)
    assert restarted.maker.status().paused
    await eventually(lambda: restarted.on("AAA").state == "paused")
    assert place.quote("AAA") is None
    await restarted.maker.resume()
    await place.quoted("AAA", "AAA-v0-a2")


async def test_a_maker_that_crashed_during_a_pause_withdraws_the_quotes_after_its_restart(place: Marketplace) -> None:
    await place.open()
    first = await quoting(place)
    await first.crash()
    assert place.quote("AAA") is not None
    await write_switch(place, b'{"paused":true,"at":"2026-01-05T09:30:00Z"}')
    await place.start_maker()
    await eventually(lambda: place.quote("AAA") is None and place.quote("BBB") is None)


SERVICE_HEADERS = {"Quotestream-Append": "by-hand"}
"""The header that every message of a service carries."""

INVALID_CHANGES = [
    (b"", SERVICE_HEADERS),
    (b"{}", SERVICE_HEADERS),
    (b'{"paused":"no"}', SERVICE_HEADERS),
    (b"\xff", SERVICE_HEADERS),
    (b'{"paused":true,"at":"2026-01-05T09:30:00Z"}', {}),
    (
        b'{"paused":true,"at":"2026-01-05T09:30:00Z"}',
        {**SERVICE_HEADERS, "Nats-Stream": "KV_switches", "Nats-Sequence": "1"},
    ),
    (b'{"type":"io.nats.jetstream.api.v1.stream_info_response"}', {}),
]
"""Invalid changes of the switch: undecodable messages, messages that no service appended, and copies."""


@pytest.mark.parametrize(("payload", "headers"), INVALID_CHANGES)
@pytest.mark.parametrize("paused", [True, False])
async def test_an_invalid_change_of_the_switch_has_no_effect_on_running_or_starting_makers(
    place: Marketplace, payload: bytes, headers: dict[str, str], *, paused: bool
) -> None:
    await place.open()
    value = msgspec.json.encode(QuotingSwitch(paused=paused, at=NOW))
    await write_switch(place, value)
    running = await place.start_maker()
    await eventually(lambda: running.maker.status().switch == ("paused" if paused else "quoting"))
    await write_switch(place, payload, headers)
    late = await place.start_maker()
    for one in (running, late):
        await eventually(lambda one=one: one.maker.status().switch == ("paused" if paused else "quoting"))  # type: ignore[misc] # binds
        await eventually(lambda one=one: one.health.report().quarantined > 0)  # type: ignore[misc] # binds
    await (late.maker.resume() if paused else late.maker.pause())
    await all_report([running, late], "quoting" if paused else "paused")


async def test_a_switch_without_a_readable_value_stops_quoting_for_the_lifetime_of_a_reservation(
    place: Marketplace,
) -> None:
    await place.open(quote_ttl=1.0)
    await write_switch(place, b"{", {})
    began = utc_now()
    running = await place.start_maker()
    await eventually(lambda: running.maker.status().switch == "starting" and running.health.report().quarantined > 0)
    await place.quoted("AAA", "AAA-v0-a1")
    assert utc_now() - began > timedelta(seconds=place.market.reservation_life - 0.5)


async def write_switch(place: Marketplace, value: bytes, headers: dict[str, str] | None = None) -> None:
    """Write the switch as another process would."""
    await place.broker.connection.request(
        KEY, value, timeout=HANG, headers=SERVICE_HEADERS if headers is None else headers or None
    )


async def test_a_pause_that_the_broker_refuses_holds_on_this_maker_and_is_reported(
    place: Marketplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.open()
    running = await quoting(place)

    async def away(*_: Any, **__: Any) -> None:
        raise Refused(Refusal.UNAVAILABLE, "the broker does not let us")

    with monkeypatch.context() as broken:
        broken.setattr("maker.service.PAUSE_DEADLINE", 0.3)
        broken.setattr(Switch, "_append", away)
        with pytest.raises(Refused, match="other makers may not have paused") as refused:
            await running.maker.pause()
        assert refused.value.refusal is Refusal.OUTCOME_UNKNOWN
        status = running.maker.status()
        assert (status.paused, status.switch, place.quote("AAA")) == (True, "holding", None)
        assert "it is not known whether the pause" in str(running.health.report().waiting_for)
    await eventually(lambda: running.maker.status().switch == "paused")
    assert running.health.ready


async def test_a_pause_that_cannot_be_confirmed_is_reported_and_still_holds(
    place: Marketplace, link: FaultyLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.open()
    running = await quoting(place)
    link.drop[Rpc.WITHDRAW_QUOTE] = 1000
    with monkeypatch.context() as impatient:
        impatient.setattr("maker.service.PAUSE_DEADLINE", 0.3)
        with pytest.raises(Refused) as refused:
            await running.maker.pause()
    assert refused.value.refusal is Refusal.OUTCOME_UNKNOWN
    assert "AAA, BBB" in refused.value.detail
    assert running.maker.status().paused
    link.drop.clear()
    assert (await running.maker.pause()).paused


async def test_a_resume_at_another_maker_ends_a_pause_that_waits_for_an_exchange(
    place: Marketplace, link: FaultyLink
) -> None:
    """The exchange receives nothing for a while, so the pause's withdrawals are answered after the resume."""
    await place.open()
    both = [await quoting(place), await quoting(place)]
    link.drop[Rpc.WITHDRAW_QUOTE] = 100_000
    pausing = asyncio.create_task(both[0].maker.pause())
    await eventually(lambda: all(running.maker.status().switch == "paused" for running in both))
    assert not (await both[1].maker.resume()).paused
    link.drop.clear()
    assert not (await pausing).paused
    await both_quote(both)


async def both_quote(both: Sequence[RunningMaker]) -> None:
    """Wait until every maker quotes and reports it."""
    for running in both:
        maker = running.maker
        await eventually(lambda maker=maker: {of.state for of in maker.status().symbols} == {"quoting"})  # type: ignore[misc] # binds
        assert (maker.status().paused, maker.status().switch) == (False, "quoting")
        maker.measure()
        for name in ("maker_paused", "maker_switch_paused", "maker_symbols_paused"):
            assert REGISTRY.get_sample_value(name) == 0


async def all_report(both: Sequence[RunningMaker], state: str) -> None:
    """Wait until every maker reports this state of the kill switch."""
    for running in both:
        maker = running.maker
        await eventually(lambda maker=maker: maker.status().switch == state)  # type: ignore[misc] # binds


async def test_a_pause_that_answered_503_is_ended_by_a_resume_at_another_maker(
    place: Marketplace, link: FaultyLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.open()
    both = [await quoting(place), await quoting(place)]
    link.drop[Rpc.WITHDRAW_QUOTE] = 100_000
    with monkeypatch.context() as impatient:
        impatient.setattr("maker.service.PAUSE_DEADLINE", 0.3)
        with pytest.raises(Refused, match="quotes may still be active on AAA, BBB"):
            await both[0].maker.pause()
    await all_report(both, "paused")
    await both[1].maker.resume()
    link.drop.clear()
    await both_quote(both)


async def test_a_pause_that_answered_503_takes_effect_for_all_once_the_broker_is_back(
    own_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with marketplace(own_broker) as place:
        await place.open()
        both = [await quoting(place), await quoting(place)]
        own_broker.server.signal(signal.SIGSTOP)
        with monkeypatch.context() as impatient:
            impatient.setattr("maker.service.PAUSE_DEADLINE", 0.3)
            with pytest.raises(Refused) as refused:
                await both[0].maker.pause()
        assert refused.value.refusal is Refusal.OUTCOME_UNKNOWN
        assert both[0].maker.status().switch == "holding"
        own_broker.server.signal(signal.SIGCONT)
        await all_report(both, "paused")
        await eventually(lambda: place.quote("AAA") is None and place.quote("BBB") is None)


@pytest.mark.parametrize("last", [True, False])
async def test_the_last_of_several_changes_in_one_batch_counts(place: Marketplace, *, last: bool) -> None:
    await place.open()
    both = [await quoting(place), await quoting(place)]
    for paused in (not last, last, not last, last):
        value = msgspec.json.encode(QuotingSwitch(paused=paused, at=NOW))
        await place.broker.connection.client.publish(KEY, value, headers=SERVICE_HEADERS)
    for running in both:
        seen = running.maker._switch.seen
        await eventually(lambda seen=seen: seen.value is not None and seen.value.sequence == 4)  # type: ignore[misc] # binds
    await all_report(both, "paused" if last else "quoting")
    if last:
        await eventually(lambda: place.quote("AAA") is None and place.quote("BBB") is None)
    else:
        await both_quote(both)


async def test_a_resume_that_is_overtaken_by_a_newer_pause_is_refused(
    place: Marketplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another maker is paused after the resume has read the switch and before it writes it."""
    await place.open()
    both = [await quoting(place), await quoting(place)]
    await both[0].maker.pause()
    append = Switch._append

    async def overtaken(self: Switch, *, paused: bool, expected: int, by: str) -> Any:
        if self is both[0].maker._switch and not paused:
            monkeypatch.undo()
            await both[1].maker.pause()
        return await append(self, paused=paused, expected=expected, by=by)

    monkeypatch.setattr(Switch, "_append", overtaken)
    with pytest.raises(Refused) as refused:
        await both[0].maker.resume()
    assert refused.value.refusal is Refusal.NEWER_PAUSE
    await all_report(both, "paused")
    await both[0].maker.resume()
    await both_quote(both)


async def test_during_a_pause_a_quote_by_hand_is_left_alone_and_a_makers_is_withdrawn(place: Marketplace) -> None:
    await place.open()
    running = await quoting(place)
    await running.maker.pause()
    await reserve(place, "AAA", 5, 5, quote_id="by-hand")
    quote = quote_request(quote_id="by-hand", reservation_id="by-hand-r", attempt=7, bid_quantity=5, ask_quantity=5)
    await place.exchange.put_quote("AAA", quote)
    await reserve(place, "BBB", 10, 10, quote_id="BBB-v0-a7")
    await place.exchange.put_quote("BBB", quote_request("BBB", attempt=7))
    await eventually(lambda: place.quote("BBB") is None)
    await eventually(lambda: running.on("AAA").state == "paused" == running.on("BBB").state)
    assert place.quote("AAA") is not None
    await running.maker.pause()
    assert place.quote("AAA") is None


# --- during an attempt ------------------------------------------------------------------------------------------------


async def test_a_pause_during_an_attempt_leaves_nothing_reserved(place: Marketplace, link: FaultyLink) -> None:
    """The grants were made, but the replies are lost: the attempts are still under way."""
    await place.open()
    link.lose[Rpc.RESERVE] = 1000
    running = await place.start_maker()
    await eventually(lambda: running.on("AAA").last_refusal and running.on("BBB").last_refusal)
    assert await used(place) == (20, 20)
    await running.maker.pause()
    assert await used(place) == (0, 0)
    link.lose.clear()
    await running.maker.resume()
    await place.quoted("AAA", "AAA-v0-a2")


async def test_a_quote_that_becomes_active_after_the_pause_is_withdrawn(place: Marketplace, link: FaultyLink) -> None:
    """An exchange may have been stopped while it activated the quote."""
    await place.open()
    running = await quoting(place)
    await running.maker.pause()
    running.maker._quoters["AAA"]._memory.sent.add("AAA-v0-a7")
    await reserve(place, "AAA", 10, 10, quote_id="AAA-v0-a7")
    await place.exchange.put_quote("AAA", quote_request(attempt=7))
    await eventually(lambda: isinstance(place.fold("AAA").event, QuoteWithdrawn))
    assert place.fold("AAA").version == (0, 0, 7)
