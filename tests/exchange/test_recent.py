"""Order ids that have executed lately."""

from datetime import timedelta

from exchange.recent import RecentOrders
from support.builders import NOW, recorded_fill


def test_an_id_is_remembered_for_the_window_and_then_forgotten() -> None:
    recent = RecentOrders(timedelta(seconds=120))
    recent.add([recorded_fill(number=1)], NOW)
    recent.add([recorded_fill(number=2)], NOW + timedelta(seconds=60))
    recent.forget(NOW + timedelta(seconds=120))
    assert set(recent.known) == {"order-AAA-1", "order-AAA-2"}
    recent.forget(NOW + timedelta(seconds=121))
    assert set(recent.known) == {"order-AAA-2"}


def test_the_window_begins_when_a_fill_was_recorded_whatever_time_it_claims() -> None:
    """One that waited for a broker, and one that another writer dated wrongly."""
    recent = RecentOrders(timedelta(seconds=120))
    recent.add([recorded_fill(number=1, created_at=NOW + timedelta(days=999))], NOW)
    recent.add([recorded_fill(number=2, created_at=NOW - timedelta(days=1))], NOW + timedelta(seconds=1))
    recent.forget(NOW + timedelta(seconds=120))
    assert "order-AAA-2" in recent.known
    recent.forget(NOW + timedelta(seconds=122))
    assert not recent.known


def test_the_first_fill_of_an_id_stays_its_fill() -> None:
    recent = RecentOrders(timedelta(seconds=120))
    recent.add([recorded_fill(number=1, order_id="x"), recorded_fill(number=2, order_id="x")], NOW)
    assert recent.known["x"].number == 1


def test_an_id_is_taken_while_its_append_is_under_way_and_free_if_that_is_lost() -> None:
    recent = RecentOrders(timedelta(seconds=120))
    fills = [recorded_fill()]
    recent.executing(fills)
    assert "order-AAA-1" in recent.known
    recent.lost(fills)
    assert "order-AAA-1" not in recent.known


def test_losing_an_append_does_not_forget_what_another_exchange_recorded() -> None:
    recent = RecentOrders(timedelta(seconds=120))
    ours, theirs = recorded_fill(number=1, order_id="x", quantity=1), recorded_fill(number=1, order_id="x", quantity=2)
    recent.executing([ours])
    recent.add([theirs], NOW)
    recent.lost([ours])
    assert recent.known["x"] == theirs


def test_what_was_appended_is_remembered_from_then_on() -> None:
    recent = RecentOrders(timedelta(seconds=120))
    fills = [recorded_fill()]
    recent.executing(fills)
    recent.add(fills, NOW)
    recent.lost(fills)
    assert "order-AAA-1" in recent.known
    recent.forget(NOW + timedelta(seconds=121))
    assert not recent.known
