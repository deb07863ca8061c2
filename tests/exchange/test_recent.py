"""Order ids that have executed lately."""

import itertools
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange import recent as module
from exchange.recent import GENERATION, LEAP, PENDING, RecentOrders
from support.builders import NOW, recorded_fill

WINDOW = 120.0


def remembering(shards: int = 1) -> RecentOrders:
    """Of a log that was empty at start, at second 0."""
    recent = RecentOrders(timedelta(seconds=WINDOW), shards)
    for shard in range(shards):
        recent.replayed(shard, 0.0)
    return recent


def pass_time(recent: RecentOrders, seconds: Iterable[int], *, shard: int = 0, ahead: float = 0.0) -> None:
    """Each second a message is stored, and a second is counted; the broker's clock is `ahead` of the true time."""
    for second in seconds:
        recent.hear(shard, NOW + timedelta(seconds=second + ahead))
        recent.tick(float(second))


def test_an_id_is_remembered_for_the_window_and_then_forgotten() -> None:
    recent = remembering()
    pass_time(recent, range(1, 3))
    recent.add(0, [recorded_fill(number=1)])
    pass_time(recent, range(3, 60))
    recent.add(0, [recorded_fill(number=2)])
    pass_time(recent, range(60, 123))
    assert "order-AAA-1" in recent
    assert "order-AAA-2" in recent
    pass_time(recent, range(123, 126))
    assert "order-AAA-1" not in recent
    assert "order-AAA-2" in recent
    pass_time(recent, range(126, 190))
    assert len(recent) == recent.size == 0


def test_the_window_begins_when_a_fill_was_recorded_whatever_time_it_claims() -> None:
    """One that waited for a broker, and one that another writer dated wrongly."""
    recent = remembering()
    recent.add(0, [recorded_fill(number=1, created_at=NOW + timedelta(days=999))])
    recent.add(0, [recorded_fill(number=2, created_at=NOW - timedelta(days=1))])
    pass_time(recent, range(1, 119))
    assert len(recent) == 2
    pass_time(recent, range(119, 125))
    assert not len(recent)


def test_what_is_remembered_of_a_fill_is_all_of_it() -> None:
    recent = remembering(2)
    fills = [
        recorded_fill(number=1, order_id="a", order_quantity=7),
        recorded_fill(number=2, order_id="b", side="sell", quantity=3, remaining_bid_quantity=0),
        recorded_fill(number=3, order_id="c", quote_id="another"),
        recorded_fill("BBB", 9, order_id="d", fill_id="theirs", origin="reported", created_at=NOW - timedelta(hours=1)),
    ]
    recent.add(1, fills)
    assert [recent.get(fill.order_id) for fill in fills] == fills
    assert recent.get("e") is None


def test_the_first_fill_of_an_id_stays_its_fill() -> None:
    recent = remembering()
    first = recorded_fill(number=1, order_id="x")
    recent.add(0, [first, recorded_fill(number=2, order_id="x")])
    recent.add(0, [recorded_fill(number=3, order_id="x")])
    assert recent.get("x") == first


def test_an_id_is_taken_while_its_append_is_under_way_and_free_if_that_is_lost() -> None:
    recent = remembering()
    fills = [recorded_fill()]
    recent.executing(fills)
    assert recent.get("order-AAA-1") is PENDING
    recent.lost(fills)
    assert "order-AAA-1" not in recent


def test_losing_an_append_does_not_forget_what_another_exchange_recorded() -> None:
    recent = remembering()
    ours, theirs = recorded_fill(number=1, order_id="x", quantity=1), recorded_fill(number=1, order_id="x", quantity=2)
    recent.executing([ours])
    recent.add(0, [theirs])
    recent.lost([ours])
    assert recent.get("x") == theirs


def test_what_was_appended_is_remembered_from_then_on() -> None:
    recent = remembering()
    fills = [recorded_fill()]
    recent.executing(fills)
    recent.add(0, fills)
    recent.lost(fills)
    assert recent.get("order-AAA-1") == fills[0]
    pass_time(recent, range(1, 125))
    assert not len(recent)


@pytest.mark.parametrize("second", [1, 60, 119])
def test_a_brokers_clock_that_leaps_or_steps_back_forgets_nothing_early(second: int) -> None:
    """It goes 300 s fast, then right again, then an hour slow, and again and again."""
    recent = remembering()
    recent.add(0, [recorded_fill()])
    pass_time(recent, range(1, second))
    for skew in (300.0, 0.0, -3600.0, 86400.0, 0.0) * 20:
        recent.hear(0, NOW + timedelta(seconds=second + skew))
        recent.tick(float(second))
    assert "order-AAA-1" in recent
    pass_time(recent, range(second, 120))
    assert "order-AAA-1" in recent
    pass_time(recent, range(120, 125))
    assert not len(recent)


def test_our_own_count_alone_forgets_nothing() -> None:
    """As when it is wrong, or when nothing is heard of the log: then nothing new is to be remembered either."""
    recent = remembering()
    recent.add(0, [recorded_fill()])
    for second in range(0, 1_000_000, 100_000):
        recent.tick(float(second))
    assert "order-AAA-1" in recent


def test_each_shard_goes_by_its_own_log() -> None:
    recent = remembering(2)
    recent.add(0, [recorded_fill("AAA")])
    recent.add(1, [recorded_fill("BBB")])
    for second in range(1, 200):
        recent.hear(0, NOW + timedelta(seconds=second))
        recent.hear(1, NOW + timedelta(days=365, seconds=second / 2))
        recent.tick(float(second))
    assert "order-AAA-1" not in recent
    assert "order-BBB-1" in recent


@given(
    steps=st.lists(
        st.tuples(st.floats(0, 20), st.floats(-1000, 1000) | st.just(0.0), st.booleans()), min_size=1, max_size=120
    )
)
def test_nothing_is_forgotten_before_the_window_is_over_whatever_the_brokers_clock_does(
    steps: list[tuple[float, float, bool]],
) -> None:
    """Time goes on by the first figure, the broker's clock is off by the second, and a fill is recorded or not."""
    recent = remembering()
    now = 0.0
    recorded: dict[str, float] = {}
    for number, (seconds, skew, fills) in enumerate(steps, start=1):
        now += seconds
        recent.hear(0, NOW + timedelta(seconds=now + skew))
        if fills:
            fill = recorded_fill(number=number)
            recent.add(0, [fill])
            recorded[fill.order_id] = now
        recent.tick(now)
        assert all(order_id in recent for order_id, at in recorded.items() if now - at <= WINDOW)


# --- at start -----------------------------------------------------------------------------------------------------


def replay(recent: RecentOrders, times: Iterable[float], numbers: Iterable[int]) -> None:
    """Read a log again: a fill at each of these seconds by the broker's clock."""
    for time, number in zip(times, numbers, strict=False):
        recent.hear(0, datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=time))
        recent.add(0, [recorded_fill(number=number)])


def test_what_is_read_at_start_is_as_old_as_the_log_says() -> None:
    recent = RecentOrders(timedelta(seconds=WINDOW))
    replay(recent, range(100), itertools.count(1))
    assert recent.lacks(0)
    replay(recent, range(100, 131), itertools.count(101))
    assert not recent.lacks(0)
    recent.replayed(0, 5000.0)
    for second in range(1, 61):
        recent.hear(0, NOW + timedelta(seconds=second))
        recent.tick(5000.0 + second)
    known = [number for number in range(1, 132) if f"order-AAA-{number}" in recent]
    assert 67 <= known[0] <= 71
    assert known == list(range(known[0], 132))


def test_a_gap_is_no_proof_that_time_has_passed() -> None:
    """It may be a leap of the broker's clock, with the window right before it: more of the log has to be read."""
    recent = RecentOrders(timedelta(seconds=WINDOW))
    replay(recent, range(1000, 1010), itertools.count(1000))
    replay(recent, range(1400, 1410), itertools.count(1010))
    assert recent.lacks(0)
    recent.further_back(0)
    replay(recent, range(930, 1000), itertools.count(930))
    assert recent.lacks(0)
    recent.further_back(0)
    replay(recent, range(890, 930), itertools.count(890))
    assert not recent.lacks(0)
    recent.replayed(0, 0.0)
    pass_time(recent, range(1, 100))
    assert all(f"order-AAA-{number}" in recent for number in range(890, 1020))
    pass_time(recent, range(100, 125))
    assert not len(recent)


# --- size ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fills", "bytes_an_id"), [(1, 560), (8, 215), (32, 175), (500, 165)])
def test_an_id_takes_as_many_bytes_as_is_said(fills: int, bytes_an_id: int) -> None:
    recent = remembering()
    for message in range(20):
        numbers = range(message * fills + 1, (message + 1) * fills + 1)
        recent.add(0, [recorded_fill(number=number, order_id=f"load-{number:010}") for number in numbers])
    assert recent.size / len(recent) <= bytes_an_id


def test_when_full_it_says_so_until_something_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 2000)
    recent = remembering()
    for number in range(1, 4):
        assert not recent.full
        recent.add(0, [recorded_fill(number=number)])
    recent.add(0, [recorded_fill(number=4)])
    assert recent.full
    pass_time(recent, range(1, int(WINDOW + LEAP + GENERATION)))
    assert not recent.full
    assert recent.size == 0
