"""How fills shrink a reservation."""

import pytest

from exposure.limits import MAX_APPLIED_FILLS
from support.builders import fill
from support.exposure import Scene
from wire.errors import Refusal, Refused

# --- fills by request -------------------------------------------------------------------------------------------------


def test_a_buy_shrinks_the_ask_and_a_sell_the_bid(scene: Scene) -> None:
    scene.reserve()
    after = scene.apply_fill(fill(quote_id="AAA-v0-a1", side="buy", quantity=3))
    assert (after.reserved_bid_quantity, after.reserved_ask_quantity) == (10, 7)
    after = scene.apply_fill(fill(quote_id="AAA-v0-a1", side="sell", quantity=4))
    assert (after.reserved_bid_quantity, after.reserved_ask_quantity) == (6, 7)
    assert scene.used == (6, 7)


def test_a_fill_is_counted_once(scene: Scene) -> None:
    scene.reserve()
    once = fill(quote_id="AAA-v0-a1", quantity=3)
    first = scene.apply_fill(once)
    assert scene.apply_fill(once) == first
    assert not scene.wrote


def test_fills_never_take_more_than_is_left(scene: Scene) -> None:
    scene.reserve()
    after = scene.apply_fill(fill(quote_id="AAA-v0-a1", quantity=30))
    assert (after.state, after.reserved_ask_quantity) == ("active", 0)


def test_a_reservation_filled_away_is_released(scene: Scene) -> None:
    scene.reserve(bid=0, ask=5)
    assert scene.apply_fill(fill(quote_id="AAA-v0-a1", quantity=5)).state == "released"
    assert scene.wrote


def test_filled_lots_cannot_be_activated(scene: Scene) -> None:
    scene.reserve()
    scene.apply_fill(fill(quote_id="AAA-v0-a1", quantity=3))
    with pytest.raises(Refused) as refused:
        scene.activate()
    assert refused.value.refusal is Refusal.MORE_THAN_RESERVED
    assert scene.activate(ask=7).reserved_ask_quantity == 7


@pytest.mark.parametrize("changes", [{"symbol": "BBB"}, {"quote_id": "other"}])
def test_a_fill_of_another_symbol_or_quote_contradicts(scene: Scene, changes: dict[str, str]) -> None:
    scene.reserve()
    with pytest.raises(Refused) as refused:
        scene.apply_fill(fill(**({"quote_id": "AAA-v0-a1"} | changes)))
    assert refused.value.refusal is Refusal.FILL_CONTRADICTS


def test_the_fills_applied_to_a_record_are_bounded(scene: Scene) -> None:
    scene = Scene(limit=1_000_000)
    scene.reserve(bid=1_000_000, ask=1_000_000)
    for _ in range(MAX_APPLIED_FILLS):
        scene.apply_fill(fill(quote_id="AAA-v0-a1"))
    with pytest.raises(Refused) as refused:
        scene.apply_fill(fill(quote_id="AAA-v0-a1"))
    assert refused.value.refusal is Refusal.FILL_CONTRADICTS


def test_after_activation_the_market_log_must_know_the_fill(scene: Scene) -> None:
    scene.reserve()
    scene.activate()
    scene.quoted()
    unknown = fill(quote_id="AAA-v0-a1", fill_id="AAA-f1")
    with pytest.raises(Refused) as refused:
        scene.apply_fill(unknown)
    assert refused.value.refusal is Refusal.FILL_NOT_RECORDED
    known = scene.filled(bid=10, ask=9)
    after = scene.apply_fill(known)
    assert (after.reserved_bid_quantity, after.reserved_ask_quantity) == (10, 9)
    assert not scene.wrote


def test_a_fill_reported_from_elsewhere_is_known_by_its_id(scene: Scene) -> None:
    scene.reserve()
    scene.activate()
    scene.quoted()
    known = scene.filled(bid=10, ask=9, fill_id="elsewhere-1")
    assert scene.apply_fill(known).reserved_ask_quantity == 9


def test_a_fill_other_than_the_recorded_one_contradicts(scene: Scene) -> None:
    scene.reserve()
    scene.activate()
    scene.quoted()
    scene.filled(bid=10, ask=9)
    with pytest.raises(Refused) as refused:
        scene.apply_fill(fill(quote_id="AAA-v0-a1", fill_id="AAA-f1", quantity=2))
    assert refused.value.refusal is Refusal.FILL_CONTRADICTS


def test_a_fill_folded_before_this_instance_started_is_known_by_its_number(scene: Scene) -> None:
    scene.reserve()
    scene.activate()
    scene.quoted()
    scene.filled(number=7, bid=10, ask=3)
    assert scene.apply_fill(fill(quote_id="AAA-v0-a1", fill_id="AAA-f6")).reserved_ask_quantity == 3
