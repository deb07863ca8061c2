"""I2, on logs that were changed to break it, and on logs that only seem to break it."""

from datetime import timedelta
from typing import Any

from audit.findings import Status, Verdict
from audit.limit import WithinLimit
from recorded.revisions import Revisions
from support.audit import LIFETIME, Script, busy, defined, place_of, text_of
from support.builders import NOW
from wire.definitions import Terms

GRACE = timedelta(seconds=2)


def limit(script: Script, lots: int = 25, revisions: Revisions | None = None) -> Verdict:
    """The verdict on a limit."""
    return script.verdict(WithinLimit(lots, GRACE, revisions or Revisions()))


def large(lots: int) -> dict[str, Any]:
    """A quote's quantities."""
    return {"bid_quantity": lots, "ask_quantity": lots}


def test_a_sound_log_proves_it() -> None:
    verdict = limit(busy())
    assert verdict.status is Status.PROVED, text_of(verdict)
    assert "at most 20 of bid and 20 of ask at once" in verdict.checked
    assert "differ by up to 2 s" in verdict.remarks[0]


def test_symbols_of_different_shards_add_up() -> None:
    script = Script()
    script.quote("AAA", **large(15))
    script.quote("XXX", **large(15))
    verdict = limit(script)
    assert verdict.status is Status.REFUTED
    assert place_of(script) in text_of(verdict)
    assert "with XXX-v0-a1, 30 lots of bid and 30 lots of ask are active at once" in text_of(verdict)
    assert "AAA-v0-a1 15/15, XXX-v0-a1 15/15" in text_of(verdict)


def test_each_side_counts_by_itself() -> None:
    script = Script()
    script.quote("AAA", bid_quantity=20, ask_quantity=5)
    script.quote("XXX", bid_quantity=5, ask_quantity=21)
    verdict = limit(script)
    assert "with XXX-v0-a1, 26 lots of ask are active" in text_of(verdict)


def test_a_replaced_quote_no_longer_counts() -> None:
    script = Script()
    script.quote("AAA", **large(20))
    script.quote("AAA", **large(25))
    assert limit(script).status is Status.PROVED


def test_a_withdrawn_quote_no_longer_counts() -> None:
    script = Script()
    script.quote("AAA", **large(20))
    script.withdraw("AAA")
    script.quote("XXX", **large(20))
    assert limit(script).status is Status.PROVED


def test_fills_reduce_their_side_from_when_they_are_stored() -> None:
    script = Script()
    script.quote("AAA", **large(20))
    script.trade("AAA", "buy", 15)
    script.quote("XXX", bid_quantity=5, ask_quantity=20)
    assert limit(script).status is Status.PROVED
    early = Script()
    early.quote("AAA", **large(20))
    early.quote("XXX", bid_quantity=5, ask_quantity=20)
    early.trade("AAA", "buy", 15)
    assert limit(early).status is Status.REFUTED


def test_a_reported_fill_of_another_quote_frees_nothing() -> None:
    script = Script()
    script.quote("AAA", **large(20))
    script.report("AAA", "buy", 15)
    script.quote("XXX", bid_quantity=5, ask_quantity=20)
    assert limit(script).status is Status.REFUTED


def test_a_quote_counts_until_it_expires() -> None:
    script = Script()
    script.quote("AAA", **large(20))
    script.wait(LIFETIME.total_seconds() - 0.01)
    script.quote("XXX", **large(20))
    assert limit(script).status is Status.REFUTED


def test_a_quote_that_expired_within_the_grace_is_noted_and_contradicts_nothing() -> None:
    script = Script()
    script.quote("AAA", **large(20))
    script.wait(LIFETIME.total_seconds() + 1)
    script.quote("XXX", **large(20))
    verdict = limit(script)
    assert verdict.status is Status.PROVED
    assert "holds only if exchange and broker have the same time" in verdict.remarks[0]
    assert "up to 40 of bid" in verdict.remarks[0]


def test_an_event_stored_after_its_quote_expired_shows_nothing() -> None:
    script = Script()
    script.quote("AAA", **large(20))
    late = script.now - timedelta(seconds=40)
    script.quote("XXX", **large(20), activated_at=late, expires_at=late + LIFETIME)
    assert limit(script).status is Status.PROVED


def test_an_id_that_is_used_again_is_another_quote() -> None:
    """The expiry of the first does not end the second."""
    script = Script()
    script.quote("AAA", **large(20), quote_id="mine", attempt=1)
    script.wait(20)
    script.quote("AAA", **large(20), quote_id="mine", attempt=2)
    script.wait(20)
    script.quote("XXX", **large(20))
    assert limit(script).status is Status.REFUTED


def test_many_contradictions_are_counted_and_the_first_are_listed() -> None:
    script = Script()
    script.quote("AAA", **large(20))
    for _ in range(50):
        script.quote("XXX", **large(20))
    verdict = limit(script)
    assert verdict.contradictions == 50
    assert len(verdict.findings) == 20


def terms(lots: int, quote_ttl: float = 30) -> Terms:
    return Terms(limit=lots, shares=2, quote_ttl=quote_ttl, grace=2, id_window=120, shards=1, max_quote_ttl=60)


def test_after_the_limit_was_lowered_the_earlier_one_applies_for_the_life_of_a_reservation() -> None:
    revisions = defined(
        (NOW - timedelta(hours=1), "market", terms(20)),
        (NOW, "market", terms(50)),
        (NOW + timedelta(hours=1), "market", terms(10)),
    )
    allowed = {
        seconds: revisions.limit(NOW + timedelta(seconds=seconds)) for seconds in (-3601, -1, 0, 3599, 3631, 3633)
    }
    assert allowed == {-3601: None, -1: 20, 0: 50, 3599: 50, 3631: 50, 3633: 10}
    assert revisions.limits == 3


def test_a_limit_is_in_use_for_as_long_as_what_was_granted_under_it_may_live_whatever_came_since() -> None:
    revisions = defined(
        (NOW - timedelta(hours=1), "market", terms(30, quote_ttl=60)),
        (NOW, "market", terms(20, quote_ttl=10)),
        (NOW + timedelta(seconds=5), "market", terms(10, quote_ttl=10)),
    )
    allowed = {seconds: revisions.limit(NOW + timedelta(seconds=seconds)) for seconds in (6, 18, 61, 63)}
    assert allowed == {6: 30, 18: 30, 61: 30, 63: 10}


def test_a_quote_may_live_as_long_as_the_terms_say_that_its_exposure_service_may_have_known() -> None:
    revisions = defined(
        (NOW, "market", terms(10, quote_ttl=30)), (NOW + timedelta(hours=1), "market", terms(10, quote_ttl=5))
    )
    lives = {seconds: revisions.quote_ttl(NOW + timedelta(seconds=seconds)) for seconds in (-1, 0, 3605, 3661)}
    assert lives == {-1: None, 0: timedelta(seconds=30), 3605: timedelta(seconds=30), 3661: timedelta(seconds=5)}


def test_quotes_are_compared_with_the_limit_then_in_force() -> None:
    script = busy()
    assert limit(script, 1, defined((NOW - timedelta(days=1), "market", terms(25)))).status is Status.PROVED
    refuted = limit(script, 25, defined((NOW - timedelta(days=1), "market", terms(15))))
    assert refuted.status is Status.REFUTED
    assert "at most 15 lots of bid" in refuted.statement


def test_a_limit_that_was_defined_in_a_lost_bucket_is_not_checkable() -> None:
    script = Script()
    script.quote("AAA", revision=2, **large(30))
    anew = defined((NOW + timedelta(hours=1), "market", terms(25)), first=3)
    verdict = limit(script, revisions=anew)
    assert verdict.status is Status.NOT_CHECKABLE
    assert "1 activations exceed 25 lots, but the limit in force then is not known" in verdict.remarks[0]
    assert limit(script, 30, anew).status is Status.PROVED

    script.wait(7200)
    script.quote("AAA", revision=3, **large(30))
    assert limit(script, revisions=anew).status is Status.REFUTED
