"""What is granted and activated, what is refused, and the usage that exposure reports."""

from datetime import timedelta

import pytest

from exposure.limits import Limits
from support.exposure import GRACE, GRANTED, LIFETIME, Scene
from wire import ids
from wire.errors import Refusal, Refused
from wire.reservations import ReservationRequest

# --- reserving --------------------------------------------------------------------------------------------------------


def test_free_lots_are_granted(scene: Scene) -> None:
    answer = scene.reserve(bid=10, ask=7)
    assert (answer.outcome, answer.reason) == ("granted", None)
    reservation = answer.reservation
    assert reservation is not None
    assert reservation.reservation_id == "AAA-v0-a1-r"
    assert (reservation.reserved_bid_quantity, reservation.reserved_ask_quantity) == (10, 7)
    assert (reservation.state, reservation.activated_at) == ("active", None)
    assert (reservation.granted_at, reservation.expires_at) == (scene.now, scene.now + GRANTED)
    assert scene.used == (10, 7)


def test_a_grant_writes_a_record(scene: Scene) -> None:
    scene.reserve()
    assert scene.wrote


@pytest.mark.parametrize(
    ("others", "requested", "granted", "outcome", "reason"),
    [
        pytest.param((90, 90), (10, 10), (10, 10), "granted", None, id="the last of both"),
        pytest.param((95, 0), (10, 10), (5, 10), "reduced", "bid_limit", id="bid short"),
        pytest.param((0, 95), (10, 10), (10, 5), "reduced", "ask_limit", id="ask short"),
        pytest.param((95, 97), (10, 10), (5, 3), "reduced", "bid_and_ask_limit", id="both short"),
        pytest.param((100, 0), (10, 10), (0, 10), "reduced", "bid_limit", id="one side only"),
        pytest.param((100, 100), (10, 10), None, "rejected", "bid_and_ask_limit", id="nothing left"),
        pytest.param((100, 0), (10, 0), None, "rejected", "bid_limit", id="bid alone, starved"),
        pytest.param((0, 100), (0, 10), None, "rejected", "ask_limit", id="ask alone, starved"),
        pytest.param((100, 0), (0, 10), (0, 10), "granted", None, id="a full side that was not requested"),
        pytest.param((100, 100), (0, 1), None, "rejected", "ask_limit", id="a full side not requested is not named"),
    ],
)
def test_each_side_gets_what_is_free(
    scene: Scene,
    others: tuple[int, int],
    requested: tuple[int, int],
    granted: tuple[int, int] | None,
    outcome: str,
    reason: str | None,
) -> None:
    scene.show("BBB", *others)
    answer = scene.reserve("AAA", *requested)
    assert (answer.outcome, answer.reason) == (outcome, reason)
    got = answer.reservation
    assert (got and (got.reserved_bid_quantity, got.reserved_ask_quantity)) == granted


def test_a_rejection_is_not_recorded_and_is_decided_again(scene: Scene) -> None:
    scene.show("BBB", 100, 100)
    assert scene.reserve("AAA").outcome == "rejected"
    assert not scene.wrote
    scene.deactivate("BBB")
    assert scene.reserve("AAA").outcome == "granted"


def test_a_quote_and_its_replacement_need_no_more_than_the_larger(scene: Scene) -> None:
    scene.reserve("AAA", 100, 100)
    answer = scene.reserve("AAA", 100, 100, attempt=2)
    assert answer.outcome == "granted"
    assert scene.used == (100, 100)


def test_a_repeated_request_gets_the_first_answer(scene: Scene) -> None:
    scene.show("BBB", 95, 0)
    first = scene.reserve("AAA")
    scene.deactivate("BBB")
    scene.now += GRANTED / 2
    assert scene.reserve("AAA") == first
    assert not scene.wrote


def test_the_first_answer_has_the_granted_lots_and_the_current_state(scene: Scene) -> None:
    scene.reserve()
    scene.activate()
    scene.quoted()
    scene.filled(bid=10, ask=4)
    again = scene.reserve().reservation
    assert again is not None
    assert (again.reserved_bid_quantity, again.reserved_ask_quantity) == (10, 10)
    assert again.activated_at == scene.now
    scene.quoted(attempt=2)
    again = scene.reserve().reservation
    assert again is not None
    assert again.state == "released"


def test_a_reservation_that_expired_unactivated_is_granted_again(scene: Scene) -> None:
    scene.show("BBB", 95, 0)
    scene.reserve("AAA")
    scene.deactivate("BBB")
    scene.now += GRANTED
    again = scene.reserve("AAA")
    assert again.outcome == "granted"
    assert again.reservation is not None
    assert again.reservation.granted_at == scene.now


@pytest.mark.parametrize(
    ("hoarded", "requested", "granted", "left"),
    [
        pytest.param([("BBB", 100, 100)], (33, 33), (33, 33), (33, 33), id="a share is revoked"),
        pytest.param([("BBB", 100, 0)], (10, 10), (10, 10), (10, 10), id="one side of it"),
        pytest.param([("BBB", 90, 90)], (10, 10), (10, 10), (100, 100), id="what is free is taken first"),
        pytest.param([("BBB", 33, 33), ("CCC", 33, 33)], (33, 33), (33, 33), (99, 99), id="shares are left alone"),
        pytest.param([("BBB", 60, 60), ("CCC", 40, 40)], (33, 33), (33, 33), (73, 73), id="no more than it takes"),
        pytest.param([("BBB", 50, 0), ("CCC", 0, 100)], (10, 33), (10, 33), (60, 33), id="only where it helps"),
    ],
)
def test_a_symbol_always_gets_its_share_of_unactivated_lots(
    scene: Scene,
    hoarded: list[tuple[str, int, int]],
    requested: tuple[int, int],
    granted: tuple[int, int],
    left: tuple[int, int],
) -> None:
    for symbol, bid, ask in hoarded:
        scene.reserve(symbol, bid, ask)
    got = scene.reserve("AAA", *requested).reservation
    assert got is not None
    assert (got.reserved_bid_quantity, got.reserved_ask_quantity) == granted
    assert scene.used == left


def test_askers_that_hoard_reservations_keep_no_symbol_from_its_share(scene: Scene) -> None:
    """Several askers reserve everything that is free, for any symbol, between any two of the makers' requests."""
    symbols = ("AAA", "BBB", "CCC")
    hoarded = 0
    for attempt in range(1, 100):
        for number, asker in enumerate(("one", "another", "third")):
            taken = scene.reserve(symbols[(attempt + number) % 3], 100, 100, attempt=1000 + attempt, asker=asker)
            hoarded += taken.outcome != "rejected"
        symbol = symbols[attempt % 3]
        got = scene.reserve(symbol, 33, 33, attempt=attempt, asker="maker")
        assert (got.outcome, max(scene.used) <= 100) == ("granted", True)
        scene.activate(symbol, 33, 33, attempt=attempt)
        scene.now += GRANTED / 20
    assert hoarded > 10


def test_a_revoked_reservation_cannot_be_activated(scene: Scene) -> None:
    scene.reserve("BBB", 100, 100)
    scene.reserve("AAA")
    with pytest.raises(Refused) as refused:
        scene.activate("BBB", 100, 100)
    assert refused.value.refusal is Refusal.RESERVATION_NOT_ACTIVE


def test_an_activated_reservation_is_not_revoked(scene: Scene) -> None:
    scene.show("BBB", 95, 95)
    scene.reserve("CCC", 5, 5)
    assert scene.reserve("AAA").outcome == "rejected"
    assert scene.used == (100, 100)


def test_a_new_request_supersedes_the_askers_unactivated_reservations(scene: Scene) -> None:
    scene.reserve(bid=20, ask=20, asker="one")
    scene.reserve(bid=10, ask=10, attempt=2, asker="another")
    scene.reserve(bid=5, ask=5, attempt=3, asker="one")
    assert [scene.state(attempt=attempt).state for attempt in (1, 2, 3)] == ["released", "active", "active"]
    assert scene.used == (10, 10)
    scene.activate(bid=5, ask=5, attempt=3)
    scene.reserve(bid=1, ask=1, attempt=4, asker="one")
    assert scene.state(attempt=3).state == "active"


def test_a_request_for_an_older_quote_than_the_asker_holds_is_superseded(scene: Scene) -> None:
    scene.reserve(attempt=2, asker="one")
    with pytest.raises(Refused) as refused:
        scene.reserve(attempt=1, asker="one")
    assert refused.value.refusal is Refusal.SUPERSEDED
    assert scene.reserve(attempt=2, asker="one").outcome == "granted"
    assert scene.reserve(attempt=1, asker="another").outcome == "granted"


@pytest.mark.parametrize(("bid", "ask"), [(9, 10), (10, 9)])
def test_a_repeated_request_with_other_quantities_is_refused(scene: Scene, bid: int, ask: int) -> None:
    scene.reserve()
    with pytest.raises(Refused) as refused:
        scene.reserve(bid=bid, ask=ask)
    assert refused.value.refusal is Refusal.QUOTE_ID_REUSED


def test_a_repeated_request_for_another_symbol_is_refused(scene: Scene) -> None:
    scene.reserve()
    request = ReservationRequest(
        quote_id=ids.quote_id("AAA", ids.QuoteVersion(0, 0, 1)), symbol="BBB", bid_quantity=10, ask_quantity=10
    )
    with pytest.raises(Refused) as refused:
        scene.limits.reserve(request, scene.now)
    assert refused.value.refusal is Refusal.QUOTE_ID_REUSED


def test_an_unknown_symbol_is_refused(scene: Scene) -> None:
    with pytest.raises(Refused) as refused:
        scene.reserve("ZZZ")
    assert refused.value.refusal is Refusal.UNKNOWN_SYMBOL


def test_a_quote_id_too_long_for_its_reservations_id_is_refused(scene: Scene) -> None:
    request = ReservationRequest(quote_id="q" * 98, symbol="AAA", bid_quantity=1, ask_quantity=1)
    assert scene.take(scene.limits.reserve(request, scene.now)).outcome == "granted"
    request = ReservationRequest(quote_id="q" * 99, symbol="AAA", bid_quantity=1, ask_quantity=1)
    with pytest.raises(Refused) as refused:
        scene.limits.reserve(request, scene.now)
    assert (refused.value.refusal, refused.value.field) == (Refusal.INVALID_FIELD, "quote_id")


def test_a_limit_lowered_below_usage_grants_nothing(scene: Scene) -> None:
    scene.show("BBB", 60, 60)
    lower = Scene(limit=50)
    record = scene.limits.usage.record(scene.id("BBB", 1))
    assert record is not None
    lower.limits.usage.fold(1, [record])
    assert lower.reserve("AAA").outcome == "rejected"
    assert lower.limits.exposure().bid.free == 0


# --- activating -------------------------------------------------------------------------------------------------------


def test_another_life_of_quotes_is_that_of_those_that_become_active_from_then_on(scene: Scene) -> None:
    scene.reserve("AAA")
    before = scene.activate("AAA")
    scene.reserve("BBB")
    scene.limits.relist(100, 3, scene.symbols, timedelta(seconds=7))
    after = scene.activate("BBB")
    assert (before.expires_at, after.expires_at) == (scene.now + LIFETIME, scene.now + timedelta(seconds=7))
    scene.reserve("AAA", attempt=2)
    scene.limits.relist(100, 3, scene.symbols, timedelta(seconds=0.2))
    held = scene.reserve("BBB", attempt=2).reservation
    assert held is not None
    assert held.expires_at == scene.now + timedelta(seconds=0.2), "before a quote uses it, no longer than a quote"


def test_a_message_that_cannot_be_read_may_hold_the_limit_for_the_longest_life_of_a_quote(scene: Scene) -> None:
    longest = timedelta(seconds=60)
    usage = Limits(100, LIFETIME, GRACE, scene.symbols, longest=longest).usage
    usage.fold_unreadable(1, scene.now)
    assert usage.unreadable_until == scene.now + longest + GRACE


def test_activation_is_recorded(scene: Scene) -> None:
    scene.reserve()
    scene.now += GRANTED / 2
    activated = scene.activate()
    assert activated.activated_at == scene.now
    assert activated.expires_at == scene.now + LIFETIME
    assert scene.wrote
    record = scene.limits.usage.record(scene.id("AAA", 1))
    assert record is not None
    assert (record.position_version, record.attempt, record.activation) == (0, 1, "one")


def test_activating_again_writes_nothing(scene: Scene) -> None:
    scene.reserve()
    first = scene.activate()
    scene.now += LIFETIME / 2
    assert scene.activate() == first
    assert not scene.wrote


@pytest.mark.parametrize(
    ("before", "request_changes", "refusal"),
    [
        pytest.param("nothing", {}, Refusal.RESERVATION_NOT_ACTIVE, id="never granted"),
        pytest.param("granted", {"quote_id": "other"}, Refusal.RESERVATION_NOT_ACTIVE, id="another quote's"),
        pytest.param("granted", {"bid": 11}, Refusal.MORE_THAN_RESERVED, id="more bid than reserved"),
        pytest.param("granted", {"ask": 11}, Refusal.MORE_THAN_RESERVED, id="more ask than reserved"),
        pytest.param("released", {}, Refusal.RESERVATION_NOT_ACTIVE, id="released"),
        pytest.param("gone", {}, Refusal.RESERVATION_NOT_ACTIVE, id="expired"),
        pytest.param("late", {}, Refusal.RESERVATION_NOT_ACTIVE, id="past its time"),
        pytest.param("newer quoted", {}, Refusal.RESERVATION_NOT_ACTIVE, id="older than the latest quote"),
        pytest.param("quoted before", {}, Refusal.RESERVATION_NOT_ACTIVE, id="its very quote was, and ended"),
        pytest.param("withdrawn", {}, Refusal.RESERVATION_NOT_ACTIVE, id="its quote was withdrawn"),
        pytest.param("filled", {}, Refusal.RESERVATION_NOT_ACTIVE, id="its quote was filled away"),
        pytest.param("activated", {"version": 1}, Refusal.QUOTE_ID_REUSED, id="for another version than before"),
    ],
)
def test_activation_is_refused(scene: Scene, before: str, request_changes: dict[str, object], refusal: Refusal) -> None:
    if before == "quoted before":
        scene.quoted()
    if before != "nothing":
        scene.reserve()
    if before in ("withdrawn", "filled", "activated"):
        scene.activate()
    match before:
        case "released":
            scene.release()
        case "gone":
            scene.later()
        case "late":
            scene.now += LIFETIME
        case "newer quoted":
            scene.quoted(attempt=2)
        case "withdrawn":
            scene.withdrawn()
        case "filled":
            scene.quoted()
            scene.filled(bid=0, ask=0)
    with pytest.raises(Refused) as refused:
        scene.activate(**request_changes)  # type: ignore[arg-type] # a table of changes
    assert refused.value.refusal is refusal


def test_activating_the_active_quote_again_changes_nothing(scene: Scene) -> None:
    """Another exchange received the same quote; the remaining lots may be less than it requests."""
    scene.reserve()
    scene.activate()
    scene.quoted()
    scene.filled(bid=10, ask=4)
    again = scene.activate(by="two")
    assert (again.state, again.reserved_bid_quantity, again.reserved_ask_quantity) == ("active", 10, 4)
    assert not scene.wrote


# --- exposure ---------------------------------------------------------------------------------------------------------


def test_exposure_shows_usage_and_the_live_reservations(scene: Scene) -> None:
    scene.show("BBB", 20, 5)
    scene.now += GRACE
    scene.reserve("AAA", 10, 10)
    scene.reserve("CCC", 1, 1)
    scene.release("CCC")
    scene.activate()
    scene.quoted()
    scene.filled(bid=10, ask=4)
    exposure = scene.limits.exposure()
    assert exposure.limit == 100
    assert (exposure.bid.used, exposure.bid.free) == (30, 70)
    assert (exposure.ask.used, exposure.ask.free) == (9, 91)
    assert [
        (live.symbol, live.reserved_bid_quantity, live.reserved_ask_quantity) for live in exposure.reservations
    ] == [
        ("BBB", 20, 5),
        ("AAA", 10, 4),
    ]
