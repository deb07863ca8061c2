"""I12, on logs that were changed to break it."""

from decimal import Decimal

import msgspec
import pytest

from audit.findings import Status, Verdict
from audit.proposals import SameProposal
from recorded.proposer import Proposer
from recorded.replay import REMEMBERED_VERSIONS
from recorded.revisions import Revisions
from support.audit import LIFETIME, LIMIT, SYMBOLS, Script, busy, defined, listings, place_of, text_of
from support.builders import NOW, instrument
from wire.definitions import Terms

TICK = Decimal("0.01")
TERMS = Terms(limit=LIMIT, shares=2, quote_ttl=30, grace=2, id_window=120, shards=1)


def proposals(script: Script, **symbols: object) -> Verdict:
    """The verdict with these settings."""
    return script.verdict(SameProposal(Proposer(listings({**SYMBOLS, **symbols}), Revisions())))  # type: ignore[dict-item] # instruments


def test_makers_quotes_are_made_again_byte_for_byte() -> None:
    verdict = proposals(busy())
    assert verdict.status is Status.PROVED, text_of(verdict)
    assert verdict.checked == "7 quotes made again, byte for byte"


def test_a_price_that_the_same_position_did_not_have_before_is_found() -> None:
    script = Script()
    event = script.quote()
    script.quote(bid_price=event.bid_price - TICK)
    verdict = proposals(script)
    assert verdict.status is Status.REFUTED
    assert place_of(script) in text_of(verdict)
    assert f"AAA-v0-a2, from position 0: its bid is {event.bid_price - TICK}" in text_of(verdict)


def test_the_same_price_with_another_spelling_is_found() -> None:
    script = Script()
    event = script.quote()
    script.quote(ask_price=Decimal(f"{event.ask_price}0"))
    assert proposals(script).status is Status.REFUTED


def test_more_lots_than_proposed_are_found_and_fewer_are_a_smaller_grant() -> None:
    script = Script()
    script.quote()
    script.quote(bid_quantity=3, ask_quantity=0)
    assert proposals(script).status is Status.PROVED
    script.quote(bid_quantity=11)
    assert "its bid is for 11 lots, the settings lead to at most 10" in text_of(proposals(script))


def test_quotes_made_under_other_settings_are_not_checkable() -> None:
    script = busy()
    verdict = proposals(script, AAA=instrument(sigma=Decimal("1.5")))
    assert verdict.status is Status.NOT_CHECKABLE
    assert "4 quotes do not follow from these settings, such as MARKET-1 #1, AAA-v0-a1" in verdict.remarks[0]
    assert verdict.checked == "3 quotes made again, byte for byte"


def test_a_symbol_that_is_not_in_the_settings_is_not_checkable() -> None:
    script = Script()
    script.quote()
    verdict = script.verdict(SameProposal(Proposer(listings({"XXX": instrument()}), Revisions())))
    assert verdict.status is Status.NOT_CHECKABLE


@pytest.mark.parametrize("named", [{"quote_id": "by-hand-1"}, {"reservation_id": "by-hand-1-r"}])
def test_a_quote_without_a_makers_ids_is_not_checked(named: dict[str, str]) -> None:
    script = Script()
    script.quote()
    script.quote(bid_price=Decimal("1.00"), **named)
    verdict = proposals(script)
    assert verdict.status is Status.PROVED
    assert verdict.remarks == ["1 quotes are not a maker's"]


def test_a_version_that_the_log_has_not_reached_is_found() -> None:
    script = Script()
    script.quote(position_version=3, quote_id="AAA-v3-a1", reservation_id="AAA-v3-a1-r")
    assert "AAA-v3-a1 is made from version 3; the log is at 0" in text_of(proposals(script))


def test_a_quote_may_be_of_an_earlier_version_than_the_last() -> None:
    script = Script()
    script.quote()
    script.trade("AAA", "buy", 3)
    at_one = script.quote()
    script.messages.pop()
    script.trade("AAA", "sell", 1)
    script.event(at_one)
    assert proposals(script).status is Status.PROVED


def test_a_version_too_far_back_is_not_checkable() -> None:
    script = Script()
    script.quote(expires_at=script.now + 100 * LIFETIME)
    for _ in range(2 * REMEMBERED_VERSIONS // 100 + 2):
        script.append(*(script.fill("AAA", side) for side in ("buy", "sell") * 50))
    script.quote(position_version=1, quote_id="AAA-v1-a1", reservation_id="AAA-v1-a1-r")
    verdict = proposals(script)
    assert verdict.status is Status.NOT_CHECKABLE
    assert "1 quotes are of positions or revisions too far back to be remembered" in verdict.remarks


def test_revisions_of_a_lost_bucket_are_not_checkable() -> None:
    """As after a restore of the market log alone, when the market is defined anew."""
    script = Script()
    script.quote(revision=2)
    script.quote(revision=6)
    revisions = defined((NOW, "symbols.AAA", SYMBOLS["AAA"]), (NOW, "market", TERMS), first=5)
    verdict = script.verdict(SameProposal(Proposer(listings(), revisions)))
    assert verdict.status is Status.NOT_CHECKABLE
    assert verdict.checked == "1 quotes made again, byte for byte"
    assert verdict.remarks == ["1 quotes are of positions or revisions too far back to be remembered"]

    script.quote(revision=7)
    assert script.verdict(SameProposal(Proposer(listings(), revisions))).status is Status.REFUTED


# --- definitions --------------------------------------------------------------------------------------------------


def test_each_quote_is_compared_at_the_revision_that_it_names() -> None:
    script = Script()
    first = script.quote(revision=2)
    dearer = msgspec.structs.replace(SYMBOLS["AAA"], reference_price=Decimal("101.00"))
    moved = {"bid_price": first.bid_price + 1, "ask_price": first.ask_price + 1}
    script.quote(revision=3, **moved)
    revisions = defined((NOW, "market", TERMS), (NOW, "symbols.AAA", SYMBOLS["AAA"]), (NOW, "symbols.AAA", dearer))
    check = SameProposal(Proposer({}, revisions))
    assert script.verdict(check).status is Status.PROVED, text_of(script.verdict(check))

    script.quote(revision=3, bid_price=first.bid_price, ask_price=first.ask_price)
    refuted = script.verdict(SameProposal(Proposer({}, revisions)))
    assert refuted.status is Status.REFUTED
    assert "AAA-v0-r3-a3, from position 0: its bid is" in text_of(refuted)


def test_a_quote_of_a_revision_that_its_instrument_never_had_is_refuted() -> None:
    script = Script()
    script.quote(revision=9)
    revisions = defined((NOW, "market", TERMS), (NOW, "symbols.AAA", SYMBOLS["AAA"]))
    refuted = script.verdict(SameProposal(Proposer(listings(), revisions)))
    assert "the settings lead to no quote, by the revision that it names" in text_of(refuted)


def test_a_quote_of_a_revision_that_is_no_longer_kept_is_not_checkable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recorded.revisions.KEPT", 2)
    revisions = Revisions()
    for sequence in (20, 21):
        revisions.add(sequence, NOW, "market", msgspec.json.encode(TERMS))
        revisions.add(sequence + 2, NOW, "symbols.AAA", msgspec.json.encode(SYMBOLS["AAA"]))
    script = Script()
    script.quote(revision=9)
    script.quote(revision=23)
    verdict = script.verdict(SameProposal(Proposer({}, revisions)))
    assert verdict.status is Status.NOT_CHECKABLE, text_of(verdict)
    assert "1 quotes are of positions or revisions too far back to be remembered" in verdict.remarks
