"""The replay: which messages are applied, and what a book remembers."""

import msgspec

from recorded.replay import REMEMBERED_QUOTES, REMEMBERED_VERSIONS, Listener
from support.audit import LIFETIME, Script, busy
from wire.market import SymbolMarket
from wire.orders import RecordedFill
from wire.quotes import QuoteActivated, QuoteEvent


def test_books_agree_with_the_fold_of_the_services() -> None:
    script = busy()
    script.append(script.last_fill["AAA"])
    replay = script.replay()
    for symbol, book in replay.books.items():
        market = SymbolMarket(symbol)
        for at, payload in script.messages:
            if at.subject.endswith(symbol):
                _fold(market, at.subject, at.sequence, payload)
        assert book.event == market.event
        assert (book.remaining_bid, book.remaining_ask) == (market.remaining_bid, market.remaining_ask)
        assert book.number == market.fill_number
        assert book.net == script.net[symbol]


def _fold(market: SymbolMarket, subject: str, sequence: int, payload: bytes) -> None:
    if subject.startswith("fills."):
        market.apply_fills(sequence, msgspec.json.decode(payload, type=list[RecordedFill]))
    else:
        market.apply_quote(sequence, msgspec.json.decode(payload, type=QuoteEvent))  # type: ignore[arg-type] # a union


def test_positions_are_remembered_for_a_while() -> None:
    script = Script()
    script.quote(expires_at=script.now + 100 * LIFETIME)
    for _ in range(100):
        script.append(*(script.fill("AAA", "sell") for _ in range(100)))
    book = script.replay().books["AAA"]
    assert (book.net_at(10_000), book.net_at(9_999), book.net_at(10_001)) == (10_000, 9_999, None)
    assert book.net_at(10_000 - REMEMBERED_VERSIONS + 1) == 10_000 - REMEMBERED_VERSIONS + 1
    assert book.net_at(1) is None
    assert Script().replay(Listener()).books == {}


def test_ended_quotes_are_remembered_for_a_while() -> None:
    script = Script()
    for _ in range(REMEMBERED_QUOTES + 5):
        script.quote()
    script.withdraw()
    script.quote()
    book = script.replay().books["AAA"]
    assert len(book.ended) == REMEMBERED_QUOTES
    assert isinstance(book.event, QuoteActivated)
    assert book.ended["AAA-v0-a21"] == ("withdrawn", 22)
    assert book.ended["AAA-v0-a20"] == ("replaced by AAA-v0-a21", 21)
    assert "AAA-v0-a1" not in book.ended
