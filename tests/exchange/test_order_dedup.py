"""The memory of recently executed order ids."""

import itertools
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange import order_dedup as module
from exchange.order_dedup import GENERATION, MAX_STEP, PENDING, OrderDedup
from support.builders import NOW, recorded_fill

WINDOW = 120.0


def remembering(shards: int = 1) -> OrderDedup:
    """Return the memory of a log that was empty at the start, at second 0."""
    dedup = OrderDedup(timedelta(seconds=WINDOW), shards)
    for shard in range(shards):
        dedup.replayed(shard, 0.0)
    return dedup


def pass_time(dedup: OrderDedup, seconds: Iterable[int], *, shard: int = 0, ahead: float = 0.0) -> None:
    """Store one message per second, while both clocks advance; the broker's clock is `ahead` of the true time."""
    for second in seconds:
        dedup.advance(shard, NOW + timedelta(seconds=second + ahead))
        dedup.tick(float(second))


def test_an_id_is_remembered_for_the_window_and_then_forgotten() -> None:
    dedup = remembering()
    pass_time(dedup, range(1, 3))
    dedup.commit(0, [recorded_fill(number=1)])
    pass_time(dedup, range(3, 60))
    dedup.commit(0, [recorded_fill(number=2)])
    pass_time(dedup, range(60, 123))
    assert "order-AAA-1" in dedup
    assert "order-AAA-2" in dedup
    pass_time(dedup, range(123, 126))
    assert "order-AAA-1" not in dedup
    assert "order-AAA-2" in dedup
    pass_time(dedup, range(126, 190))
    assert len(dedup) == dedup.size == 0


def test_the_window_begins_when_a_fill_was_recorded_not_when_it_was_created() -> None:
    """One fill waited for the broker, and another writer gave the other a wrong time."""
    dedup = remembering()
    dedup.commit(0, [recorded_fill(number=1, created_at=NOW + timedelta(days=999))])
    dedup.commit(0, [recorded_fill(number=2, created_at=NOW - timedelta(days=1))])
    pass_time(dedup, range(1, 119))
    assert len(dedup) == 2
    pass_time(dedup, range(119, 125))
    assert not len(dedup)


def test_every_field_of_a_fill_is_remembered() -> None:
    dedup = remembering(2)
    fills = [
        recorded_fill(number=1, order_id="a", order_quantity=7),
        recorded_fill(number=2, order_id="b", side="sell", quantity=3, remaining_bid_quantity=0),
        recorded_fill(number=3, order_id="c", quote_id="another"),
        recorded_fill("BBB", 9, order_id="d", fill_id="theirs", origin="reported", created_at=NOW - timedelta(hours=1)),
    ]
    dedup.commit(1, fills)
    assert [dedup.get(fill.order_id) for fill in fills] == fills
    assert dedup.get("e") is None


def test_the_first_fill_of_an_id_stays_its_fill() -> None:
    dedup = remembering()
    first = recorded_fill(number=1, order_id="x")
    dedup.commit(0, [first, recorded_fill(number=2, order_id="x")])
    dedup.commit(0, [recorded_fill(number=3, order_id="x")])
    assert dedup.get("x") == first


def test_an_id_is_pending_while_its_append_is_in_flight_and_free_if_that_is_lost() -> None:
    dedup = remembering()
    fills = [recorded_fill()]
    dedup.begin(fills)
    assert dedup.get("order-AAA-1") is PENDING
    dedup.abort(fills)
    assert "order-AAA-1" not in dedup


def test_a_lost_append_does_not_forget_what_another_exchange_recorded() -> None:
    dedup = remembering()
    ours, theirs = recorded_fill(number=1, order_id="x", quantity=1), recorded_fill(number=1, order_id="x", quantity=2)
    dedup.begin([ours])
    dedup.commit(0, [theirs])
    dedup.abort([ours])
    assert dedup.get("x") == theirs


def test_committed_fills_are_remembered_from_then_on() -> None:
    dedup = remembering()
    fills = [recorded_fill()]
    dedup.begin(fills)
    dedup.commit(0, fills)
    dedup.abort(fills)
    assert dedup.get("order-AAA-1") == fills[0]
    pass_time(dedup, range(1, 125))
    assert not len(dedup)


@pytest.mark.parametrize("second", [1, 60, 119])
def test_a_brokers_clock_that_is_set_makes_no_id_expire_early(second: int) -> None:
    """It is set 300 s ahead, back to the true time, an hour back and so on, many times."""
    dedup = remembering()
    dedup.commit(0, [recorded_fill()])
    pass_time(dedup, range(1, second))
    for skew in (300.0, 0.0, -3600.0, 86400.0, 0.0) * 20:
        dedup.advance(0, NOW + timedelta(seconds=second + skew))
        dedup.tick(float(second))
    assert "order-AAA-1" in dedup
    pass_time(dedup, range(second, 120))
    assert "order-AAA-1" in dedup
    pass_time(dedup, range(120, 125))
    assert not len(dedup)


def test_the_monotonic_clock_alone_forgets_nothing() -> None:
    """As when it is wrong, or while the log delivers nothing: then there is nothing new to remember either."""
    dedup = remembering()
    dedup.commit(0, [recorded_fill()])
    for second in range(0, 1_000_000, 100_000):
        dedup.tick(float(second))
    assert "order-AAA-1" in dedup


def test_each_shard_has_its_own_log_time() -> None:
    dedup = remembering(2)
    dedup.commit(0, [recorded_fill("AAA")])
    dedup.commit(1, [recorded_fill("BBB")])
    for second in range(1, 200):
        dedup.advance(0, NOW + timedelta(seconds=second))
        dedup.advance(1, NOW + timedelta(days=365, seconds=second / 2))
        dedup.tick(float(second))
    assert "order-AAA-1" not in dedup
    assert "order-BBB-1" in dedup


@given(
    steps=st.lists(
        st.tuples(st.floats(0, 20), st.floats(-1000, 1000) | st.just(0.0), st.booleans()), min_size=1, max_size=120
    )
)
def test_no_id_is_forgotten_before_the_window_has_passed_whatever_the_brokers_clock_does(
    steps: list[tuple[float, float, bool]],
) -> None:
    """In each step, the true time advances, the broker's clock is off by a skew, and a fill is recorded or not."""
    dedup = remembering()
    now = 0.0
    recorded: dict[str, float] = {}
    for number, (seconds, skew, fills) in enumerate(steps, start=1):
        now += seconds
        dedup.advance(0, NOW + timedelta(seconds=now + skew))
        if fills:
            fill = recorded_fill(number=number)
            dedup.commit(0, [fill])
            recorded[fill.order_id] = now
        dedup.tick(now)
        assert all(order_id in dedup for order_id, at in recorded.items() if now - at <= WINDOW)


# --- at start -----------------------------------------------------------------------------------------------------


def replay(dedup: OrderDedup, times: Iterable[float], numbers: Iterable[int]) -> None:
    """Replay a log with a fill at each of these times, in seconds of the broker's clock."""
    for time, number in zip(times, numbers, strict=False):
        dedup.advance(0, datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=time))
        dedup.commit(0, [recorded_fill(number=number)])


def test_ids_read_at_the_start_are_aged_by_the_log_time() -> None:
    dedup = OrderDedup(timedelta(seconds=WINDOW))
    replay(dedup, range(100), itertools.count(1))
    assert dedup.needs_more(0)
    replay(dedup, range(100, 131), itertools.count(101))
    assert not dedup.needs_more(0)
    dedup.replayed(0, 5000.0)
    for second in range(1, 61):
        dedup.advance(0, NOW + timedelta(seconds=second))
        dedup.tick(5000.0 + second)
    known = [number for number in range(1, 132) if f"order-AAA-{number}" in dedup]
    assert 67 <= known[0] <= 71
    assert known == list(range(known[0], 132))


def test_a_gap_is_no_proof_that_time_has_passed() -> None:
    """The broker's clock may have been set, so the window may lie before the gap: more of the log must be read."""
    dedup = OrderDedup(timedelta(seconds=WINDOW))
    replay(dedup, range(1000, 1010), itertools.count(1000))
    replay(dedup, range(1400, 1410), itertools.count(1010))
    assert dedup.needs_more(0)
    dedup.further_back(0)
    replay(dedup, range(930, 1000), itertools.count(930))
    assert dedup.needs_more(0)
    dedup.further_back(0)
    replay(dedup, range(890, 930), itertools.count(890))
    assert not dedup.needs_more(0)
    dedup.replayed(0, 0.0)
    pass_time(dedup, range(1, 100))
    assert all(f"order-AAA-{number}" in dedup for number in range(890, 1020))
    pass_time(dedup, range(100, 125))
    assert not len(dedup)


# --- size ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fills", "bytes_an_id"), [(1, 560), (8, 215), (32, 175), (500, 165)])
def test_an_id_takes_as_many_bytes_as_documented(fills: int, bytes_an_id: int) -> None:
    dedup = remembering()
    for message in range(20):
        numbers = range(message * fills + 1, (message + 1) * fills + 1)
        dedup.commit(0, [recorded_fill(number=number, order_id=f"load-{number:010}") for number in numbers])
    assert dedup.size / len(dedup) <= bytes_an_id


def test_the_memory_is_full_until_ids_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 2000)
    dedup = remembering()
    for number in range(1, 4):
        assert not dedup.full
        dedup.commit(0, [recorded_fill(number=number)])
    dedup.commit(0, [recorded_fill(number=4)])
    assert dedup.full
    pass_time(dedup, range(1, int(WINDOW + MAX_STEP + GENERATION)))
    assert not dedup.full
    assert dedup.size == 0
