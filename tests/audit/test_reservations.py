"""I3, on logs and reservations that were changed to break it."""

from datetime import timedelta
from typing import Any

import pytest

from audit.findings import Status, Verdict
from audit.reservations import Reserved
from recorded.reservations import Grant, Reservations
from support.audit import LIFETIME, Script, defined, text_of
from support.builders import NOW
from wire.definitions import Terms
from wire.quotes import QuoteActivated
from wire.reservations import ReservationRecord

GRACE = timedelta(seconds=2)


def record(event: QuoteActivated, **changes: Any) -> ReservationRecord:
    """The reservation of a quote."""
    values: dict[str, Any] = {
        "reservation_id": event.reservation_id,
        "quote_id": event.quote_id,
        "symbol": event.symbol,
        "reserved_bid_quantity": event.bid_quantity,
        "reserved_ask_quantity": event.ask_quantity,
        "state": "active",
        "granted_at": event.activated_at,
        "activated_at": event.activated_at,
        "expires_at": event.expires_at,
        "outcome": "granted",
        "asked_bid_quantity": event.bid_quantity,
        "asked_ask_quantity": event.ask_quantity,
        "granted_bid_quantity": event.bid_quantity,
        "granted_ask_quantity": event.ask_quantity,
        "position_version": event.position_version,
        "attempt": event.attempt,
    }
    return ReservationRecord(**(values | changes))


def reserved(script: Script, *records: ReservationRecord, logged: dict[str, Grant] | None = None) -> Verdict:
    """The verdict with these reservations, which are read at the end of the log."""
    reservations = Reservations({each.reservation_id: each for each in records}, script.end)
    return script.verdict(Reserved(LIFETIME, GRACE, reservations, logged or {}))


def test_a_live_quote_with_its_reservation_is_proved() -> None:
    script = Script()
    verdict = reserved(script, record(script.quote()))
    assert verdict.status is Status.PROVED, text_of(verdict)
    assert "1 quotes against reservations that are still kept, 1 of them active throughout" in verdict.checked


def test_a_live_quote_without_a_reservation_is_found() -> None:
    script = Script()
    script.quote()
    verdict = reserved(script)
    assert verdict.status is Status.REFUTED
    assert "AAA-v0-a1-r is not in exposure's log" in text_of(verdict)
    assert "MARKET-1 #1 quotes.1.AAA" in text_of(verdict)


def test_a_live_quote_whose_reservation_was_released_is_found() -> None:
    script = Script()
    event = script.quote()
    gone = record(event, state="released", reserved_bid_quantity=0, reserved_ask_quantity=0)
    assert "AAA-v0-a1-r is released" in text_of(reserved(script, gone))


def test_a_reservation_smaller_than_the_remaining_quantity_is_found() -> None:
    script = Script()
    event = script.quote()
    script.trade("AAA", "buy", 4)
    assert reserved(script, record(event, reserved_ask_quantity=6)).status is Status.PROVED
    short = reserved(script, record(event, reserved_ask_quantity=5))
    assert "has 10/6 left (bid/ask), but only 10/5 is reserved" in text_of(short)


def test_a_quote_for_more_than_was_granted_is_found() -> None:
    script = Script()
    event = script.quote()
    verdict = reserved(script, record(event, granted_bid_quantity=9))
    assert "AAA-v0-a1 shows 10/10 (bid/ask), but 9/10 was granted" in text_of(verdict)


def test_a_quote_that_outlives_its_reservation_is_found() -> None:
    script = Script()
    event = script.quote()
    verdict = reserved(script, record(event, expires_at=event.expires_at - timedelta(seconds=1)))
    assert "AAA-v0-a1 outlives its reservation" in text_of(verdict)


def test_a_quote_on_the_reservation_of_another_quote_is_found() -> None:
    script = Script()
    event = script.quote(reservation_id="somebodys-r")
    assert "somebodys-r is somebodys's, of AAA" in text_of(reserved(script, record(event, quote_id="somebodys")))


def test_a_quote_that_lives_longer_than_any_reservation_is_found() -> None:
    script = Script()
    event = script.quote(expires_at=script.now + LIFETIME + GRACE)
    assert reserved(script, record(event)).status is Status.PROVED
    event = script.quote(expires_at=script.now + LIFETIME + GRACE + timedelta(seconds=1))
    assert "AAA-v0-a2 expires 33 s after it became active" in text_of(reserved(script, record(event)))


@pytest.mark.parametrize(
    ("exchange", "exposure", "refuted"), [(-1.0, 1.0, 0), (1.0, -1.0, 0), (-1.5, 1.0, 0), (0.0, 2.5, 1), (1.0, 2.5, 1)]
)
def test_the_life_of_a_quote_is_counted_from_when_the_broker_stored_it(
    exchange: float, exposure: float, refuted: int
) -> None:
    """Parameters: seconds by which the clocks of the exchange and of exposure are ahead of the broker's."""
    script = Script()
    stored = script.now
    event = script.quote(
        activated_at=stored + timedelta(seconds=exchange), expires_at=stored + timedelta(seconds=exposure) + LIFETIME
    )
    assert reserved(script, record(event)).contradictions == refuted


@pytest.mark.parametrize(("quote_ttl", "status"), [(2, Status.REFUTED), (LIFETIME.total_seconds(), Status.PROVED)])
def test_a_quote_lives_no_longer_than_the_terms_in_force_say(quote_ttl: float, status: Status) -> None:
    terms = Terms(limit=100, shares=2, quote_ttl=quote_ttl, grace=2, id_window=120, shards=1)
    revisions = defined((NOW - timedelta(days=1), "market", terms))
    script = Script()
    reservations = Reservations({each.reservation_id: each for each in [record(script.quote())]}, script.end)
    check = Reserved(10 * LIFETIME, GRACE, reservations, {}, revisions=revisions)
    assert script.verdict(check).status is status


def test_a_quote_that_had_expired_before_it_became_active_is_found() -> None:
    script = Script()
    event = script.quote(expires_at=script.now)
    assert "AAA-v0-a1 became active when its reservation had expired" in text_of(reserved(script, record(event)))


def test_grants_that_are_not_kept_are_not_checkable() -> None:
    script = Script()
    script.quote()
    script.withdraw()
    verdict = reserved(script)
    assert verdict.status is Status.NOT_CHECKABLE
    assert "1 of 1 quotes ended and their grants are not kept" in verdict.remarks


def test_a_grant_in_exposures_log_file_counts() -> None:
    script = Script()
    script.quote()
    script.withdraw()
    assert reserved(script, logged={"AAA-v0-a1": Grant(10, 10)}).status is Status.PROVED
    short = reserved(script, logged={"AAA-v0-a1": Grant(10, 7)})
    assert "AAA-v0-a1 shows 10/10 (bid/ask), but 10/7 was granted" in text_of(short)


def test_a_quote_that_became_active_while_exposures_log_was_read_is_not_checked() -> None:
    script = Script()
    script.quote()
    verdict = script.verdict(Reserved(LIFETIME, GRACE, Reservations({}, script.messages[0][0].time), {}))
    assert verdict.status is Status.PROVED
    assert "1 quotes became active after the reservations were read" in verdict.remarks[0]


def test_a_record_from_an_earlier_use_of_the_id_proves_nothing() -> None:
    script = Script()
    event = script.quote()
    script.withdraw()
    assert reserved(script, record(event, attempt=7)).status is Status.NOT_CHECKABLE
