"""One quote's story, as data and as text."""

from typing import Any

import msgspec
import pytest

from recorded.proposer import Proposer
from recorded.revisions import Revisions
from recorded.service_logs import LogLine
from recorded.story import Story, StoryBuilder
from recorded.story_text import text
from support.audit import LIFETIME, Script, listings
from support.builders import NOW
from wire.reservations import ReservationRecord


def story(script: Script, quote_id: str) -> Story:
    """The story of a quote of AAA."""
    builder = StoryBuilder(quote_id, Proposer(listings(), Revisions()))
    replay = script.replay(builder)
    return builder.story(replay.books.get("AAA"), script.end)


def test_a_story_leads_from_the_position_to_the_replacement() -> None:
    script = Script()
    script.quote()
    first = script.trade("AAA", "buy", 4)
    quote = script.quote()
    second = script.trade("AAA", "sell", 3)
    third = script.trade("AAA", "buy", 2)
    script.quote()
    found = story(script, "AAA-v1-a1")
    assert found.activated == quote
    assert found.active_from is not None
    assert (found.active_from.stream, found.active_from.sequence) == ("MARKET-1", 3)
    assert found.basis is not None
    assert (found.basis.position_version, found.basis.net_quantity, found.basis.last_fill) == (1, -4, first.fill)
    assert found.recomputed is not None
    assert found.recomputed.proposal is not None
    assert found.recomputed.proposal.bid_price == quote.bid_price
    assert found.recomputed.difference == ""
    assert [execution.fill for execution in found.fills] == [second.fill, third.fill]
    assert (found.fills[-1].remaining_bid_quantity, found.fills[-1].remaining_ask_quantity) == (7, 8)
    assert found.end is not None
    assert (found.end.how, found.end.by) == ("replaced", "AAA-v3-a1")
    lines = text(found)
    assert "version 1: -4 lots net, after AAA-f1, a buy of 4 at" in lines
    assert "recomputed from the settings: the quote's prices are the same, byte for byte" in lines
    assert f"10 × {quote.bid_price} / {quote.ask_price} × 10 from 2026-01-05 09:30:00.002000" in lines
    assert f"AAA-f2: sell 3 at {quote.bid_price}, leaves 7/10, order order-2, MARKET-1 #4" in lines
    assert "replaced by AAA-v3-a1 at 2026-01-05 09:30:00.005000, after 0.003 s, MARKET-1 #6" in lines


def ended(script: Script) -> tuple[str, str]:
    """How AAA-v0-a1 ended, as data and as text."""
    found = story(script, "AAA-v0-a1")
    assert found.end is not None
    return found.end.how, next(line for line in text(found).splitlines() if line.startswith("  end"))


def test_a_quote_can_end_by_withdrawal() -> None:
    script = Script()
    script.quote()
    script.withdraw()
    assert ended(script) == (
        "withdrawn",
        "  end         withdrawn at 2026-01-05 09:30:00.001000, after 0.001 s, MARKET-1 #2",
    )


@pytest.mark.parametrize("replaced_later", [False, True])
def test_a_quote_can_end_by_expiry(replaced_later: bool) -> None:
    script = Script()
    script.quote()
    script.wait(LIFETIME.total_seconds() + 3)
    if replaced_later:
        script.quote()
    assert ended(script) == ("expired", "  end         expired at 2026-01-05 09:30:30.000000, after 30.000 s")


@pytest.mark.parametrize("replaced_later", [False, True])
def test_a_quote_can_be_filled_away(replaced_later: bool) -> None:
    script = Script()
    script.quote()
    script.trade("AAA", "buy", 10)
    script.trade("AAA", "sell", 10)
    if replaced_later:
        script.quote()
    assert ended(script) == (
        "filled away",
        "  end         filled away at 2026-01-05 09:30:00.002000, after 0.002 s, MARKET-1 #3",
    )


def test_a_quote_can_be_still_active() -> None:
    script = Script()
    script.quote()
    assert ended(script) == (
        "still active",
        "  end         still active, until 2026-01-05 09:30:30.000000 at the latest",
    )


def test_the_difference_of_a_quote_from_its_proposal_is_shown() -> None:
    script = Script()
    event = script.quote()
    script.quote(bid_price=event.bid_price / 2, quote_id="by-hand")
    found = story(script, "by-hand")
    assert found.recomputed is not None
    assert found.recomputed.difference.startswith("its ids are not a maker's; its bid is ")
    assert found.recomputed.difference in text(found)


def test_the_story_is_that_of_the_last_quote_with_the_id() -> None:
    script = Script()
    script.quote(quote_id="by-hand", attempt=1)
    script.trade()
    second = script.quote(quote_id="by-hand", position_version=1, attempt=2)
    found = story(script, "by-hand")
    assert found.activated == second
    assert found.fills == []


def test_the_text_has_the_reservation_and_the_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    values: dict[str, Any] = {
        "reservation_id": "AAA-v0-a1-r",
        "quote_id": "AAA-v0-a1",
        "symbol": "AAA",
        "reserved_bid_quantity": 4,
        "reserved_ask_quantity": 10,
        "state": "active",
        "granted_at": NOW,
        "activated_at": None,
        "expires_at": NOW + LIFETIME,
        "outcome": "reduced",
        "reason": "bid_limit",
        "asked_bid_quantity": 10,
        "asked_ask_quantity": 10,
        "granted_bid_quantity": 4,
        "granted_ask_quantity": 10,
    }
    line = LogLine(time=NOW, process="maker", event="not published", fields={"reason": "paused"})
    found = text(Story(quote_id="AAA-v0-a1", reservation=ReservationRecord(**values), logs=[line]))
    assert "reduced by the bid limit: 4/10 of 10/10 asked (bid/ask), 2026-01-05 09:30:00" in found
    assert "AAA-v0-a1-r is active and holds 4/10; expires 2026-01-05 09:30:30" in found
    assert "never: the market log has no such quote" in found
    assert "2026-01-05 09:30:00.000000 maker: not published reason=paused" in found


def test_the_text_says_if_a_grant_is_no_longer_kept() -> None:
    assert "grant       no longer kept" in text(Story(quote_id="AAA-v0-a1"))


def test_a_story_can_be_written_and_read_as_json() -> None:
    script = Script()
    script.quote()
    script.trade()
    found = story(script, "AAA-v0-a1")
    assert msgspec.json.decode(msgspec.json.encode(found), type=Story) == found
