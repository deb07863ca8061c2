"""Order ids that have executed lately."""

from datetime import timedelta

from exchange.recent import RecentOrders
from support.builders import NOW, recorded_fill


def test_an_id_is_remembered_for_the_window_and_then_forgotten() -> None:
    recent = RecentOrders(timedelta(seconds=120))
    recent.add([recorded_fill(number=1), recorded_fill(number=2, created_at=NOW + timedelta(seconds=60))])
    recent.forget(NOW + timedelta(seconds=120))
    assert list(recent.by_id) == ["order-AAA-1", "order-AAA-2"]
    recent.forget(NOW + timedelta(seconds=121))
    assert list(recent.by_id) == ["order-AAA-2"]


def test_the_first_fill_of_an_id_stays_its_fill() -> None:
    recent = RecentOrders(timedelta(seconds=120))
    recent.add([recorded_fill(number=1, order_id="x"), recorded_fill(number=2, order_id="x")])
    assert recent.by_id["x"].number == 1
