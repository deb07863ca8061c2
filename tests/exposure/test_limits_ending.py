"""Deactivations and releases, and their refusals."""

import pytest

from support.exposure import Scene
from wire.errors import Refusal, Refused

# --- deactivating -----------------------------------------------------------------------------------------------------


def test_an_activation_that_is_deactivated_frees_its_lots(scene: Scene) -> None:
    scene.reserve()
    scene.activate()
    assert scene.deactivate().state == "released"
    assert scene.used == (0, 0)
    assert scene.wrote


def test_deactivating_twice_changes_nothing(scene: Scene) -> None:
    scene.reserve()
    scene.activate()
    first = scene.deactivate()
    assert scene.deactivate() == first
    assert not scene.wrote


@pytest.mark.parametrize("by", ["one", "two"])
def test_a_reservation_that_two_exchanges_activated_is_deactivated_by_neither(scene: Scene, by: str) -> None:
    """The other exchange's quote event may be in flight."""
    scene.reserve()
    scene.activate(by="one")
    scene.activate(by="two")
    assert scene.deactivate(by=by).state == "active"
    assert scene.used == (10, 10)


def test_a_reservation_that_two_exchanges_activated_is_freed_by_the_market_log(scene: Scene) -> None:
    scene.reserve()
    scene.activate(by="one")
    scene.activate(by="two")
    scene.quoted(attempt=2)
    assert scene.used == (0, 0)


def test_the_latest_quotes_activation_cannot_be_deactivated(scene: Scene) -> None:
    scene.reserve()
    scene.activate()
    scene.quoted()
    assert scene.deactivate().state == "active"
    assert not scene.wrote


def test_a_reservation_that_was_never_activated_cannot_be_deactivated(scene: Scene) -> None:
    scene.reserve()
    assert scene.deactivate().state == "active"


def test_deactivating_an_unknown_reservation_is_refused(scene: Scene) -> None:
    with pytest.raises(Refused) as refused:
        scene.deactivate()
    assert refused.value.refusal is Refusal.NOT_FOUND


# --- releasing --------------------------------------------------------------------------------------------------------


def test_a_release_frees_an_unactivated_reservation(scene: Scene) -> None:
    scene.reserve()
    released = scene.release()
    assert (released.state, released.reserved_bid_quantity, released.reserved_ask_quantity) == ("released", 0, 0)
    assert scene.used == (0, 0)


def test_releasing_twice_changes_nothing(scene: Scene) -> None:
    scene.reserve()
    first = scene.release()
    assert scene.release() == first
    assert not scene.wrote


def test_releasing_a_reservation_that_backs_a_quote_is_refused(scene: Scene) -> None:
    scene.reserve()
    scene.activate()
    with pytest.raises(Refused) as refused:
        scene.release()
    assert refused.value.refusal is Refusal.RESERVATION_ACTIVATED


def test_releasing_a_reservation_whose_quote_has_ended_changes_nothing(scene: Scene) -> None:
    scene.reserve()
    scene.activate()
    scene.withdrawn()
    assert scene.release().state == "released"
    assert not scene.wrote


def test_releasing_an_expired_reservation_shows_that_it_expired(scene: Scene) -> None:
    scene.reserve()
    scene.later()
    assert scene.release().state == "expired"


def test_releasing_an_unknown_reservation_is_refused(scene: Scene) -> None:
    with pytest.raises(Refused) as refused:
        scene.release()
    assert refused.value.refusal is Refusal.NOT_FOUND
