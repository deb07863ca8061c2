"""The fold of the bucket and the market logs."""

import pytest

from support.exposure import Scene
from wire.errors import Refusal, Refused


def test_a_symbol_uses_the_largest_of_its_reservations_on_each_side(scene: Scene) -> None:
    scene.reserve(bid=10, ask=3)
    scene.reserve(bid=4, ask=8, attempt=2)
    assert scene.used == (10, 8)


def test_symbols_add_up(scene: Scene) -> None:
    scene.reserve("AAA", bid=10, ask=3)
    scene.reserve("BBB", bid=5, ask=6)
    assert scene.used == (15, 9)
    assert scene.limits.usage.beside("AAA") == (5, 6)


def test_a_message_folded_before_is_skipped(scene: Scene) -> None:
    """The tail brings our own writes again, after newer ones may have been folded."""
    scene.reserve()
    granted = scene.limits.usage.record(scene.id("AAA", 1))
    scene.release()
    assert granted is not None
    scene.limits.usage.fold_record(1, granted)
    scene.limits.usage.fold_marker(2, granted.reservation_id, aged=True)
    assert scene.state().state == "released"
    assert scene.limits.usage.head == 2


def test_the_end_of_a_live_key_is_an_expiry(scene: Scene) -> None:
    scene.reserve()
    expired = scene.gone()
    assert expired is not None
    assert (expired.state, expired.reserved_bid_quantity, expired.reserved_ask_quantity) == ("expired", 0, 0)
    assert scene.used == (0, 0)
    assert scene.state() == expired


def test_the_end_of_a_released_key_is_none(scene: Scene) -> None:
    scene.reserve()
    scene.release()
    assert scene.gone() is None
    assert scene.state().state == "released"


def test_the_end_of_a_key_whose_quote_was_replaced_is_no_expiry(scene: Scene) -> None:
    scene.reserve()
    scene.activate()
    scene.quoted(attempt=2)
    assert scene.gone() is None
    assert scene.state().state == "released"


def test_a_key_deleted_by_hand_is_released(scene: Scene) -> None:
    scene.reserve()
    assert scene.gone(aged=False) is None
    assert scene.state().state == "released"
    assert scene.used == (0, 0)


def test_the_end_of_an_unknown_key_moves_the_head_only(scene: Scene) -> None:
    assert scene.gone("CCC") is None
    assert scene.limits.usage.head == 1


def test_an_id_granted_again_is_live_again(scene: Scene) -> None:
    scene.reserve()
    scene.gone()
    scene.reserve(bid=3, ask=3)
    assert scene.state().state == "active"
    assert scene.used == (3, 3)


def test_what_ended_long_ago_is_forgotten(scene: Scene) -> None:
    for attempt in range(1, 1010):
        scene.reserve(attempt=attempt)
        scene.gone(attempt=attempt)
    assert scene.state(attempt=1009).state == "expired"
    with pytest.raises(Refused) as refused:
        scene.state(attempt=1)
    assert refused.value.refusal is Refusal.NOT_FOUND


def test_an_unreadable_value_is_named_until_its_key_is_readable_or_gone(scene: Scene) -> None:
    usage = scene.limits.usage
    usage.fold_unreadable(1, scene.id("AAA", 1))
    usage.fold_unreadable(2, "odd")
    assert usage.unreadable == {scene.id("AAA", 1), "odd"}
    scene.head = 2
    scene.reserve()
    usage.fold_marker(4, "odd", aged=False)
    assert not usage.unreadable


def test_an_unreadable_value_keeps_what_was_counted(scene: Scene) -> None:
    scene.reserve()
    scene.limits.usage.fold_unreadable(2, scene.id("AAA", 1))
    assert scene.used == (10, 10)


def test_a_fill_is_known_until_the_next_quote(scene: Scene) -> None:
    scene.quoted()
    fill = scene.filled(bid=10, ask=9, fill_id="elsewhere-7")
    recorded = scene.limits.usage.fill("AAA", "elsewhere-7")
    assert recorded is not None
    assert recorded.fill == fill
    scene.quoted(attempt=2)
    assert scene.limits.usage.fill("AAA", "elsewhere-7") is None


def test_the_head_skips_forward_only(scene: Scene) -> None:
    scene.limits.usage.skip_to(7)
    scene.limits.usage.skip_to(5)
    assert scene.limits.usage.head == 7
