"""Ids are derived from facts, and subjects from ids."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from wire import ids, subjects

SYMBOLS = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,31}\Z")
VERSIONS = st.builds(ids.QuoteVersion, st.integers(0, 2**53), st.integers(0, 2**53), st.integers(1, 2**31))
FACTS = st.tuples(SYMBOLS, VERSIONS)
Facts = tuple[str, ids.QuoteVersion]


@given(one=FACTS, other=FACTS)
def test_different_facts_have_different_quote_ids(one: Facts, other: Facts) -> None:
    assert (ids.quote_id(*one) == ids.quote_id(*other)) == (one == other)


@given(facts=FACTS)
def test_a_quote_id_gives_back_its_version(facts: Facts) -> None:
    symbol, version = facts
    assert ids.quote_version(symbol, ids.quote_id(symbol, version)) == version


def test_any_other_quote_id_has_no_version() -> None:
    for other in (
        "AAA-v1-r0-a1",
        "AAA-v01-a1",
        "AAA-v1-a",
        "AAA-v1-ra1",
        "AAA-v1-r2-a3-r",
        "BBB-v1-a1",
        "by-hand",
        "AAA-v1-a\N{ARABIC-INDIC DIGIT ONE}",
    ):
        assert ids.quote_version("AAA", other) is None


def test_quotes_are_ordered_by_position_version_then_revision_then_attempt() -> None:
    newest_last = ["AAA-v1-a9", "AAA-v1-r3-a8", "AAA-v1-r4-a1", "AAA-v1-r4-a2", "AAA-v2-r4-a1"]
    for older, newer in itertools.pairwise(newest_last):
        assert ids.is_older(older, newer, "AAA")
        assert not ids.is_older(newer, older, "AAA")


@given(symbol=SYMBOLS, number=st.integers(1, 2**53))
def test_a_fill_id_gives_back_its_number(symbol: str, number: int) -> None:
    assert ids.fill_number(symbol, ids.fill_id(symbol, number)) == number


def test_any_other_fill_id_has_no_number() -> None:
    assert ids.fill_number("AAA", "AAA-fx") is None
    assert ids.fill_number("AAA", "BBB-f1") is None
    assert ids.fill_number("AAA", "AAA-f") is None
    assert ids.fill_number("AAA", "AAA-f٣") is None


@given(facts=FACTS)
def test_every_id_fits_an_id_field(facts: Facts) -> None:
    assert len(ids.reservation_id(ids.quote_id(*facts))) <= 100


def test_a_symbols_shard_never_changes() -> None:
    """These values are part of the wire format. With others, symbols would be searched for in the wrong stream."""
    shards = {symbol: subjects.shard_of(symbol, 4) for symbol in ("AAPL", "MSFT", "BTC-USD", "EURUSD")}
    assert shards == {"AAPL": 0, "MSFT": 3, "BTC-USD": 0, "EURUSD": 3}


def test_subjects_are_spelled_as_the_protocol_says() -> None:
    assert subjects.quotes(3, "AAPL") == "quotes.3.AAPL"
    assert subjects.fills(3, "AAPL") == "fills.3.AAPL"
    assert subjects.market_head(3, "AAPL") == "*.3.AAPL"
    assert subjects.position("AAPL") == "positions.AAPL"
    assert subjects.bucket_key("quotes", "AAPL") == "$KV.quotes.AAPL"
    assert subjects.last_token("fills.3.BTC-USD") == "BTC-USD"
