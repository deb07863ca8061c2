"""The fold of exposure's log and the market logs, and drafts of it."""

from datetime import timedelta

import pytest

from exposure.usage import Draft
from support.builders import NOW, reservation_request
from support.exposure import GRACE, GRANTED, LIFETIME, Scene
from wire.errors import Refusal, Refused


def test_a_symbol_uses_the_largest_of_its_reservations_on_each_side(scene: Scene) -> None:
    scene.reserve(bid=10, ask=3)
    scene.reserve(bid=4, ask=8, attempt=2)
    assert scene.used == (10, 8)


def test_symbols_add_up(scene: Scene) -> None:
    scene.reserve("AAA", bid=10, ask=3)
    scene.reserve("BBB", bid=5, ask=6)
    assert scene.used == (15, 9)
    assert scene.limits.usage.used_by_others("AAA") == (5, 6)


def test_a_message_folded_before_is_skipped(scene: Scene) -> None:
    """The tail delivers an instance's own writes again, perhaps after newer ones were folded."""
    scene.reserve()
    granted = scene.limits.usage.record(scene.id("AAA", 1))
    scene.release()
    assert granted is not None
    scene.limits.usage.fold(1, [granted])
    scene.limits.usage.fold_unreadable(2, scene.now)
    assert scene.state().state == "released"
    assert scene.limits.usage.head == 2
    assert scene.limits.usage.unreadable_until < scene.now


def test_a_reservation_expires_when_the_logs_time_has_passed_its_end_and_the_grace(scene: Scene) -> None:
    scene.reserve()
    scene.activate()
    assert scene.later(LIFETIME + GRACE) == []
    assert scene.used == (10, 10)
    (expired,) = scene.later(timedelta(microseconds=1))
    assert (expired.state, expired.reserved_bid_quantity, expired.reserved_ask_quantity) == ("expired", 0, 0)
    assert scene.used == (0, 0)
    assert scene.state() == expired


def test_a_message_folded_before_still_advances_the_time(scene: Scene) -> None:
    scene.reserve()
    assert scene.limits.usage.advance_time(NOW + LIFETIME + GRACE + GRACE)
    assert scene.used == (0, 0)


def test_time_never_goes_back(scene: Scene) -> None:
    scene.later()
    scene.limits.usage.advance_time(NOW)
    scene.now = NOW
    scene.reserve()
    assert scene.used == (0, 0)


def test_only_activation_gives_a_reservation_the_lifetime_of_a_quote(scene: Scene) -> None:
    scene.reserve(attempt=1)
    scene.reserve(attempt=2)
    scene.now += GRANTED / 2
    scene.activate(attempt=2)
    assert scene.limits.usage.next_expiry() == NOW + GRANTED
    assert [each.quote_id for each in scene.later(GRANTED)] == ["AAA-v0-a1"]
    assert scene.limits.usage.next_expiry() == NOW + GRANTED / 2 + LIFETIME + GRACE
    scene.activate(attempt=2, by="two")
    assert scene.later(LIFETIME + GRACE - GRANTED) == []
    assert len(scene.later(timedelta(milliseconds=1))) == 1


def test_a_released_reservation_does_not_expire(scene: Scene) -> None:
    scene.reserve()
    scene.release()
    assert scene.later() == []
    assert scene.state().state == "released"


def test_a_replaced_reservation_does_not_expire(scene: Scene) -> None:
    scene.reserve()
    scene.activate()
    scene.quoted(attempt=2)
    assert scene.used == (0, 0)
    assert scene.later() == []
    assert scene.state().state == "released"


def test_an_id_granted_again_is_live_again(scene: Scene) -> None:
    scene.reserve()
    scene.later()
    scene.reserve(bid=3, ask=3)
    assert scene.state().state == "active"
    assert scene.used == (3, 3)


def test_a_reservation_that_expired_long_ago_is_forgotten(scene: Scene) -> None:
    for attempt in range(1, 1010):
        scene.reserve(attempt=attempt)
        scene.later()
    assert scene.state(attempt=1009).state == "expired"
    with pytest.raises(Refused) as refused:
        scene.state(attempt=1)
    assert refused.value.refusal is Refusal.NOT_FOUND


def test_an_unreadable_message_may_count_for_as_long_as_a_reservation_lives(scene: Scene) -> None:
    scene.reserve()
    scene.limits.usage.fold_unreadable(2, NOW)
    assert scene.limits.usage.unreadable_until == NOW + LIFETIME + GRACE
    assert scene.used == (10, 10)


def test_changed_and_ended_reservations_are_marked_for_projection(scene: Scene) -> None:
    scene.reserve()
    assert list(scene.limits.usage.changed) == [scene.id("AAA", 1)]
    scene.activate()
    scene.limits.usage.changed.clear()
    scene.quoted(attempt=2)
    assert list(scene.limits.usage.changed) == [scene.id("AAA", 1)]


def test_a_draft_counts_new_records_and_leaves_the_fold_unchanged(scene: Scene) -> None:
    scene.reserve("AAA", bid=10, ask=3)
    draft = Draft(scene.limits.usage)
    request = reservation_request("BBB", bid_quantity=5, ask_quantity=6)
    decision = scene.limits.on(draft).reserve(request, scene.now)
    assert decision.write is not None
    draft.add(decision.write.record)
    assert draft.total == (15, 9)
    assert draft.used_by_others("AAA") == (5, 6)
    assert draft.records == [decision.write.record]
    assert scene.used == (10, 3)
    assert scene.limits.usage.record(decision.write.record.reservation_id) is None


def test_a_draft_counts_the_larger_of_a_symbols_reservations(scene: Scene) -> None:
    scene.reserve("AAA", bid=10, ask=3)
    draft = Draft(scene.limits.usage)
    limits = scene.limits.on(draft)
    second = limits.reserve(reservation_request(quote_id="q2", bid_quantity=4, ask_quantity=8), scene.now).write
    assert second is not None
    draft.add(second.record)
    assert draft.total == (10, 8)
    released = limits.release(second.record.reservation_id).write
    assert released is not None
    draft.add(released.record)
    assert draft.total == (10, 3)
    assert draft.records == [released.record]


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
