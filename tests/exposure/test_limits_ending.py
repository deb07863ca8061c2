"""What is deactivated and released, and what is refused."""

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
def test_what_two_exchanges_activated_neither_deactivates(scene: Scene, by: str) -> None:
    """The other one's quote event may be on its way."""
    scene.reserve()
    scene.activate(by="one")
    scene.activate(by="two")
    assert scene.deactivate(by=by).state == "active"
    assert scene.used == (10, 10)


def test_what_two_exchanges_activated_is_free_once_the_market_says_so(scene: Scene) -> None:
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


def test_what_was_never_activated_cannot_be_deactivated(scene: Scene) -> None:
    scene.reserve()
    assert scene.deactivate().state == "active"


def test_deactivating_the_unknown_is_refused(scene: Scene) -> None:
    with pytest.raises(Refused) as refused:
        scene.deactivate()
    assert refused.value.refusal is Refusal.NOT_FOUND


# --- releasing --------------------------------------------------------------------------------------------------------


def test_a_release_frees_what_was_never_activated(scene: Scene) -> None:
    scene.reserve()
    released = scene.release()
    assert (released.state, released.reserved_bid_quantity, released.reserved_ask_quantity) == ("released", 0, 0)
    assert scene.used == (0, 0)


def test_releasing_twice_changes_nothing(scene: Scene) -> None:
    scene.reserve()
    first = scene.release()
    assert scene.release() == first
    assert not scene.wrote


def test_releasing_what_backs_a_quote_is_refused(scene: Scene) -> None:
    scene.reserve()
    scene.activate()
    with pytest.raises(Refused) as refused:
        scene.release()
    assert refused.value.refusal is Refusal.RESERVATION_ACTIVATED


def test_releasing_what_its_quote_let_go_already_changes_nothing(scene: Scene) -> None:
    scene.reserve()
    scene.activate()
    scene.withdrawn()
    assert scene.release().state == "released"
    assert not scene.wrote


def test_releasing_what_expired_tells_so(scene: Scene) -> None:
    scene.reserve()
    scene.later()
    assert scene.release().state == "expired"


def test_releasing_the_unknown_is_refused(scene: Scene) -> None:
    with pytest.raises(Refused) as refused:
        scene.release()
    assert refused.value.refusal is Refusal.NOT_FOUND
