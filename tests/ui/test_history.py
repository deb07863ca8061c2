"""A symbol's recent history: its quotes over time, and its fills."""

from datetime import timedelta
from decimal import Decimal

import pytest

from support.builders import NOW, quote_activated, recorded_fill
from ui.history import Execution, HistoryBuilder, Span
from wire.orders import RecordedFill
from wire.quotes import QuoteEvent, QuoteWithdrawn

BID, ASK = Decimal("99.90"), Decimal("100.10")
START = round(NOW.timestamp() * 1000)


def quoted(at: float, version: int = 0) -> QuoteEvent:
    return quote_activated(position_version=version, activated_at=NOW + timedelta(seconds=at))


def withdrawn(at: float) -> QuoteEvent:
    quote = quote_activated()
    return QuoteWithdrawn(
        symbol=quote.symbol,
        quote_id=quote.quote_id,
        reservation_id=quote.reservation_id,
        position_version=quote.position_version,
        attempt=quote.attempt,
        withdrawn_at=NOW + timedelta(seconds=at),
    )


def filled(at: float, bid: int, ask: int, number: int = 1) -> list[RecordedFill]:
    """A fill after which these quantities remain."""
    left = {"remaining_bid_quantity": bid, "remaining_ask_quantity": ask}
    return [recorded_fill(number=number, created_at=NOW + timedelta(seconds=at), **left)]


def shown(begins: float, ends: float, bid: Decimal | None = BID, ask: Decimal | None = ASK, version: int = 0) -> Span:
    return Span(START + round(begins * 1000), START + round(ends * 1000), bid, ask, f"AAA-v{version}-a1")


@pytest.mark.parametrize(
    ("log", "spans"),
    [
        ([quoted(0)], [shown(0, 30)]),
        ([quoted(0), quoted(20, 1)], [shown(0, 20), shown(20, 50, version=1)]),
        ([quoted(0), quoted(40, 1)], [shown(0, 30), shown(40, 70, version=1)]),
        ([quoted(0), withdrawn(5)], [shown(0, 5)]),
        ([quoted(0), filled(5, 10, 9)], [shown(0, 30)]),
        ([quoted(0), filled(5, 10, 0)], [shown(0, 5), shown(5, 30, ask=None)]),
        ([quoted(0), filled(5, 10, 0), filled(9, 0, 0, 2)], [shown(0, 5), shown(5, 9, ask=None)]),
        ([filled(5, 3, 3), quoted(6)], [shown(6, 36)]),
        ([quoted(10), quoted(8, 1)], [shown(10, 10), shown(10, 38, version=1)]),
    ],
    ids=[
        "open",
        "replaced",
        "expired",
        "withdrawn",
        "filled",
        "one side",
        "filled away",
        "fills before the first quote",
        "activated before the last began",
    ],
)
def test_a_span_ends_with_its_quote_or_when_a_side_is_filled(
    log: list[QuoteEvent | list[RecordedFill]], spans: list[Span]
) -> None:
    builder = HistoryBuilder("AAA")
    for sequence, entry in enumerate(log, start=1):
        if isinstance(entry, list):
            builder.apply_fills(sequence, entry)
        else:
            builder.apply_quote(sequence, entry)
    assert builder.history(NOW).spans == spans


def test_valid_fills_are_kept_wherever_in_the_log_the_fold_begins() -> None:
    builder = HistoryBuilder("AAA")
    for sequence, number in enumerate((7, 8, 8, 12), start=1):
        builder.apply_fills(sequence, filled(sequence, 1, 1, number))
    history = builder.history(NOW)
    assert (history.symbol, history.since) == ("AAA", START)
    assert history.fills == [
        Execution(START + 1000 * at, "buy", 1, ASK, number, "AAA-v0-a1") for at, number in ((1, 7), (2, 8))
    ]
