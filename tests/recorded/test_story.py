"""One quote's story, and how it is told."""

from typing import Any

import msgspec
import pytest

from recorded.evidence import LogLine
from recorded.proposer import Proposer
from recorded.revisions import Revisions
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


def test_from_the_position_to_the_replacement() -> None:
    script = Script()
    script.quote()
    first = script.trade("AAA", "buy", 4)
    quote = script.quote()
    second = script.trade("AAA", "sell", 3)
    third = script.trade("AAA", "buy", 2)
    script.quote()
    told = story(script, "AAA-v1-a1")
    assert told.activated == quote
    assert told.active_from is not None
    assert (told.active_from.stream, told.active_from.sequence) == ("MARKET-1", 3)
    assert told.basis is not None
    assert (told.basis.position_version, told.basis.net_quantity, told.basis.last_fill) == (1, -4, first.fill)
    assert told.recomputed is not None
    assert told.recomputed.proposal is not None
    assert told.recomputed.proposal.bid_price == quote.bid_price
    assert told.recomputed.difference == ""
    assert [execution.fill for execution in told.fills] == [second.fill, third.fill]
    assert (told.fills[-1].remaining_bid_quantity, told.fills[-1].remaining_ask_quantity) == (7, 8)
    assert told.end is not None
    assert (told.end.how, told.end.by) == ("replaced", "AAA-v3-a1")
    lines = text(told)
    assert "version 1: -4 lots net, after AAA-f1, a buy of 4 at" in lines
    assert "recomputed from the settings: the quote's prices are the same, byte for byte" in lines
    assert f"10 × {quote.bid_price} / {quote.ask_price} × 10 from 2026-01-05 09:30:00.002000" in lines
    assert f"AAA-f2: sell 3 at {quote.bid_price}, leaves 7/10, order order-2, MARKET-1 #4" in lines
    assert "replaced by AAA-v3-a1 at 2026-01-05 09:30:00.005000, after 0.003 s, MARKET-1 #6" in lines


def ended(script: Script) -> tuple[str, str]:
    """How AAA-v0-a1 ended, as data and as text."""
    told = story(script, "AAA-v0-a1")
    assert told.end is not None
    return told.end.how, next(line for line in text(told).splitlines() if line.startswith("  end"))


def test_a_withdrawal() -> None:
    script = Script()
    script.quote()
    script.withdraw()
    assert ended(script) == (
        "withdrawn",
        "  end         withdrawn at 2026-01-05 09:30:00.001000, after 0.001 s, MARKET-1 #2",
    )


@pytest.mark.parametrize("replaced_later", [False, True])
def test_an_expiry(replaced_later: bool) -> None:
    script = Script()
    script.quote()
    script.wait(LIFETIME.total_seconds() + 3)
    if replaced_later:
        script.quote()
    assert ended(script) == ("expired", "  end         expired at 2026-01-05 09:30:30.000000, after 30.000 s")


@pytest.mark.parametrize("replaced_later", [False, True])
def test_filled_away(replaced_later: bool) -> None:
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


def test_still_active() -> None:
    script = Script()
    script.quote()
    assert ended(script) == (
        "still active",
        "  end         still active, until 2026-01-05 09:30:30.000000 at the latest",
    )


def test_a_quote_that_is_not_what_the_settings_lead_to() -> None:
    script = Script()
    event = script.quote()
    script.quote(bid_price=event.bid_price / 2, quote_id="by-hand")
    told = story(script, "by-hand")
    assert told.recomputed is not None
    assert told.recomputed.difference.startswith("its ids are not a maker's; its bid is ")
    assert told.recomputed.difference in text(told)


def test_of_two_quotes_under_one_id_the_last_is_told() -> None:
    script = Script()
    script.quote(quote_id="by-hand", attempt=1)
    script.trade()
    second = script.quote(quote_id="by-hand", position_version=1, attempt=2)
    told = story(script, "by-hand")
    assert told.activated == second
    assert told.fills == []


def test_a_reservation_and_logs_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
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
    told = text(Story(quote_id="AAA-v0-a1", reservation=ReservationRecord(**values), logs=[line]))
    assert "reduced by the bid limit: 4/10 of 10/10 asked (bid/ask), 2026-01-05 09:30:00" in told
    assert "AAA-v0-a1-r is active and holds 4/10; expires 2026-01-05 09:30:30" in told
    assert "never: the market log has no such quote" in told
    assert "2026-01-05 09:30:00.000000 maker: not published reason=paused" in told


def test_what_is_no_longer_kept_is_said_to_be_so() -> None:
    assert "grant       no longer kept" in text(Story(quote_id="AAA-v0-a1"))


def test_a_story_is_json_as_well() -> None:
    script = Script()
    script.quote()
    script.trade()
    told = story(script, "AAA-v0-a1")
    assert msgspec.json.decode(msgspec.json.encode(told), type=Story) == told
