"""Definitions: the fold of the market, and changes, which are checked as a whole."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.builders import instrument
from wire.definitions import TERMS, Definitions, Terms, changes, differing_times, fair_share, key_of
from wire.instruments import Instrument, Listing
from wire.units import FieldError

AAA, BBB = instrument(), instrument(tick=Decimal("0.05"))


def terms(**different: Any) -> Terms:
    return Terms(**{"limit": 100, "shares": 8, "quote_ttl": 30, "grace": 2, "id_window": 120, "shards": 4} | different)


def folded(*values: tuple[str, msgspec.Struct]) -> Definitions:
    """Fold definitions, with sequences from 1."""
    definitions = Definitions()
    for sequence, (key, value) in enumerate(values, start=1):
        assert definitions.apply(sequence, key, msgspec.json.encode(value)) is None
    return definitions


def test_there_are_no_listings_without_terms() -> None:
    assert folded((key_of("AAA"), AAA)).listings() == {}


def test_a_symbols_revision_is_the_newer_of_its_definition_and_the_terms() -> None:
    known = folded((key_of("AAA"), AAA), (TERMS, terms()), (key_of("BBB"), BBB))
    assert known.listings() == {"AAA": Listing(AAA, 12, 2), "BBB": Listing(BBB, 12, 3)}
    known.apply(4, TERMS, msgspec.json.encode(terms(limit=200)))
    assert known.listings() == {"AAA": Listing(AAA, 25, 4), "BBB": Listing(BBB, 25, 4)}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (key_of("AAA"), b"{"),
        (key_of("AAA"), b'{"tick": "0.01"}'),
        (key_of("AAA"), msgspec.json.encode(AAA).replace(b'"0.01"', b'"0.03"')),
        (key_of("-AAA"), msgspec.json.encode(AAA)),
        ("AAA", msgspec.json.encode(AAA)),
        (TERMS, b"\xff"),
        (TERMS, msgspec.json.encode(AAA)),
    ],
)
def test_an_invalid_definition_is_quarantined_and_the_previous_one_stays_in_force(key: str, value: bytes) -> None:
    known = folded((TERMS, terms()), (key_of("AAA"), AAA))
    assert known.apply(3, key, value)
    assert (known.head, known.listings()) == (3, {"AAA": Listing(AAA, 12, 2)})


def test_each_instrument_has_an_equal_share_of_the_gross_position() -> None:
    known = folded((TERMS, terms(max_gross=100)), (key_of("AAA"), AAA), (key_of("BBB"), instrument(max_position=5)))
    assert {symbol: listing.position_limit for symbol, listing in known.listings().items()} == {"AAA": 12, "BBB": 5}


def test_a_message_that_was_folded_before_is_skipped() -> None:
    known = folded((TERMS, terms()), (key_of("AAA"), AAA))
    assert known.apply(2, key_of("AAA"), msgspec.json.encode(BBB)) is None
    assert known.listing("AAA") == Listing(AAA, 12, 2)


@pytest.mark.parametrize(("limit", "symbols", "share"), [(100, 8, 12), (100, 1, 100), (100, 100, 1), (5, 8, 1)])
def test_a_symbols_share_is_its_part_of_the_limit_but_at_least_one_lot(limit: int, symbols: int, share: int) -> None:
    assert fair_share(limit, symbols) == share


def test_only_what_differs_is_written() -> None:
    known = folded((TERMS, terms()), (key_of("AAA"), AAA), (key_of("BBB"), BBB))
    dearer = msgspec.structs.replace(AAA, reference_price=Decimal("100.50"))
    (change,) = changes(known, terms(), {"AAA": dearer, "BBB": BBB})
    assert (change.key, dict(change.differs)) == ("symbols.AAA", {"reference_price": ("100.00", "100.50")})
    assert msgspec.json.decode(change.value, type=Instrument) == dearer
    assert changes(known, terms(), {}) == []


@pytest.mark.parametrize(
    ("different", "instruments", "field"),
    [
        ({"shards": 8}, {}, "shards"),
        ({}, {"A.B": AAA}, "symbol"),
        ({}, {"": AAA}, "symbol"),
        ({}, {"*": AAA}, "symbol"),
        ({"max_gross": 7}, {}, "max_gross"),
        ({"max_quote_ttl": 61}, {}, "max_quote_ttl"),
        ({"grace": 3}, {}, "grace"),
        ({"id_window": 60}, {}, "id_window"),
    ],
)
def test_a_change_that_contradicts_the_rest_is_refused(
    different: dict[str, Any], instruments: dict[str, Instrument], field: str
) -> None:
    known = folded((TERMS, terms(max_quote_ttl=60)), (key_of("AAA"), AAA), (key_of("BBB"), BBB))
    with pytest.raises(FieldError) as caught:
        changes(known, terms(**{"max_quote_ttl": 60} | different), instruments)
    assert caught.value.field == field


@pytest.mark.parametrize("quote_ttl", [1, 60])
def test_the_life_of_quotes_may_change_up_to_the_largest(quote_ttl: float) -> None:
    known = folded((TERMS, terms(max_quote_ttl=60)), (key_of("AAA"), AAA))
    (change,) = changes(known, terms(max_quote_ttl=60, quote_ttl=quote_ttl), {})
    assert change.differs.keys() == {"quote_ttl"}
    with pytest.raises(FieldError, match="must be at most `max_quote_ttl`, which is 60") as caught:
        terms(max_quote_ttl=60, quote_ttl=61)
    assert caught.value.field == "quote_ttl"


def test_by_terms_of_an_earlier_version_the_life_of_quotes_cannot_grow_while_anything_runs() -> None:
    known = folded((TERMS, terms()), (key_of("AAA"), AAA))
    assert known.terms is not None
    assert known.terms.longest_quote == 30
    assert differing_times(terms(max_quote_ttl=60), terms()) == ["max_quote_ttl is 60, and not 30"]
    with pytest.raises(FieldError) as caught:
        changes(known, terms(max_quote_ttl=60), {})
    assert caught.value.field == "max_quote_ttl"
    (change,) = changes(known, terms(max_quote_ttl=60), {}, stopped=True)
    assert change.differs.keys() == {"max_quote_ttl"}


@pytest.mark.parametrize(("wanted", "shares"), [(1, 3), (3, 3), (8, 8)])
def test_there_is_at_least_one_share_for_each_instrument_that_is_not_delisted(wanted: int, shares: int) -> None:
    known = folded((TERMS, terms(shares=2)), (key_of("AAA"), AAA), (key_of("BBB"), BBB))
    found = {change.key: change.value for change in changes(known, terms(shares=wanted), {"CCC": AAA})}
    assert msgspec.json.decode(found[TERMS], type=Terms).shares == shares
    delisted = msgspec.structs.replace(BBB, state="delisted")
    assert TERMS not in {change.key for change in changes(known, None, {"BBB": delisted, "CCC": AAA})}


def test_terms_that_differ_only_in_too_few_shares_change_nothing() -> None:
    """As with a settings file that does not name every defined instrument."""
    known = folded((TERMS, terms(shares=2)), (key_of("AAA"), AAA), (key_of("BBB"), BBB))
    assert changes(known, terms(shares=1), {"AAA": AAA}) == []


@given(st.permutations(range(4)), st.integers(1, 1000))
def test_folding_the_changes_in_any_order_gives_the_wanted_definitions(order: list[int], limit: int) -> None:
    wanted = {"AAA": AAA, "BBB": BBB, "CCC": instrument(quote_size=3)}
    found = changes(Definitions(), terms(limit=limit), wanted)
    known = Definitions()
    for sequence, place in enumerate(order, start=1):
        known.apply(sequence, found[place].key, found[place].value)
    assert {symbol: listing.instrument for symbol, listing in known.listings().items()} == wanted
    assert changes(known, terms(limit=limit), wanted) == []
