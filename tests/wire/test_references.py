"""References: the table of a feed's prices, and which of them are in force."""

import bisect
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorded.revisions import Revisions
from support.builders import NOW, instrument
from wire import definitions, references
from wire.definitions import TERMS, Definitions, Terms, changes, key_of, updated_references
from wire.instruments import Instrument, Listing
from wire.references import REFERENCES, FeedPrice, PutReferences, Reference, encode
from wire.strict_decoder import StrictDecoder
from wire.units import FieldError

SYMBOLS = ("AAA", "BBB", "CCC")
TERMS_OF_ALL = Terms(limit=100, shares=4, quote_ttl=30, grace=2, id_window=120, shards=4)


class Bucket:
    """The bucket `instruments`, folded as services do and as the audit does."""

    def __init__(self, **instruments: Instrument) -> None:
        self.known = Definitions()
        self.revisions = Revisions()
        self.seen: dict[tuple[str, int], Listing] = {}
        self.store(TERMS, msgspec.json.encode(TERMS_OF_ALL))
        for symbol, each in instruments.items():
            self.define(symbol, each)

    def store(self, key: str, value: bytes) -> None:
        sequence = self.known.head + 1
        assert self.known.apply(sequence, key, value) is None
        self.revisions.add(sequence, NOW, key, value)
        for symbol, listing in self.known.listings().items():
            before = self.seen.setdefault((symbol, listing.revision), listing)
            quoted = (listing.instrument, listing.share, listing.gross, listing.price)
            assert quoted == (before.instrument, before.share, before.gross, before.price)

    def define(self, symbol: str, wanted: Instrument, until: int | None = None) -> None:
        """Write the changes; with `until`, only that many of them, as if interrupted."""
        for change in changes(self.known, None, {symbol: wanted})[:until]:
            self.store(change.key, change.value)

    def refer(self, time: int, **prices: str) -> bool:
        """Store prices from a feed. False if there was nothing to store."""
        base = {symbol: self.listing(symbol).instrument.reference_price for symbol in prices}
        given = {symbol: FeedPrice(Decimal(price), time, base[symbol]) for symbol, price in prices.items()}
        value = updated_references(self.known, given)
        if value is not None:
            self.store(REFERENCES, value)
        return value is not None

    def listing(self, symbol: str = "AAA") -> Listing:
        found = self.known.listing(symbol)
        assert found is not None
        return found


def test_a_reference_makes_a_new_revision_of_its_symbol_only() -> None:
    bucket = Bucket(AAA=instrument(), BBB=instrument())
    other = bucket.listing("BBB")
    assert bucket.refer(1000, AAA="101.00")
    listing = bucket.listing()
    assert (str(listing.reference_price), listing.revision) == ("101.00", bucket.known.head)
    assert bucket.listing("BBB") == other
    assert list(bucket.known.affected(REFERENCES)) == ["AAA"]


def test_the_same_price_at_a_later_time_makes_no_new_revision() -> None:
    bucket = Bucket(AAA=instrument())
    bucket.refer(1000, AAA="101.00")
    before = bucket.listing()
    assert bucket.refer(2000, AAA="101.00")
    after = bucket.listing()
    assert after.revision == before.revision
    assert after.priced_at == references.time_of(2000)
    assert not bucket.refer(2000, AAA="101.00"), "the same again is not written"


def test_the_price_with_the_later_feed_time_counts_whichever_arrives_first() -> None:
    bucket = Bucket(AAA=instrument())
    bucket.refer(2000, AAA="101.00")
    assert not bucket.refer(1000, AAA="99.00")
    assert str(bucket.listing().reference_price) == "101.00"


def test_a_defined_price_replaces_the_feeds_earlier_prices_and_its_next_price_replaces_it() -> None:
    bucket = Bucket(AAA=instrument(), BBB=instrument())
    bucket.refer(1000, AAA="101.00", BBB="101.00")
    bucket.define("AAA", instrument(quote_size=3))
    assert str(bucket.listing().reference_price) == "101.00", "a change of size leaves the price alone"
    bucket.define("AAA", instrument(reference_price=Decimal("105.00")))
    assert (str(bucket.listing().reference_price), bucket.listing().priced_at) == ("105.00", None)
    assert str(bucket.listing("BBB").reference_price) == "101.00"
    bucket.define("AAA", instrument(reference_price=Decimal("100.00")))
    assert str(bucket.listing().reference_price) == "100.00", "a replaced price does not come back"
    bucket.refer(500, AAA="100.50")
    assert str(bucket.listing().reference_price) == "100.50"


@pytest.mark.parametrize(
    "meanwhile",
    [instrument(reference_price=Decimal("105.00")), instrument(state="delisted")],
    ids=["price", "delisted"],
)
def test_a_replaced_reference_does_not_come_back_after_an_interrupted_change(meanwhile: Instrument) -> None:
    bucket = Bucket(AAA=instrument())
    bucket.refer(1000, AAA="101.00")
    bucket.define("AAA", meanwhile, until=1)
    assert "AAA" in bucket.known.references, "the change was interrupted before it removed the reference"
    bucket.define("AAA", instrument())
    assert str(bucket.listing().reference_price) == "100.00"


def test_a_price_checked_against_a_definition_replaced_since_does_not_count() -> None:
    bucket = Bucket(AAA=instrument(), BBB=instrument())
    late = {symbol: FeedPrice(Decimal("101.00"), 1000, Decimal("100.00")) for symbol in ("AAA", "BBB")}
    bucket.define("AAA", instrument(reference_price=Decimal("200.00")))
    value = updated_references(bucket.known, late)
    assert value is not None
    bucket.store(REFERENCES, value)
    assert str(bucket.listing("AAA").reference_price) == "200.00"
    assert str(bucket.listing("BBB").reference_price) == "101.00"
    bucket.refer(3000, AAA="201.00")
    assert updated_references(bucket.known, late) is None
    assert str(bucket.listing("AAA").reference_price) == "201.00", "the feed's later price stays"


def test_after_a_change_of_tick_the_reference_is_rounded_to_it_until_the_next_price() -> None:
    bucket = Bucket(AAA=instrument())
    bucket.refer(1000, AAA="101.03")
    bucket.define("AAA", instrument(tick=Decimal("0.05")))
    assert str(bucket.listing().reference_price) == "101.05"
    bucket.define("AAA", instrument(tick=Decimal("0.001"), reference_price=Decimal(100)))
    assert str(bucket.listing().reference_price) == "101.030"
    bucket.refer(2000, AAA="101.001")
    assert str(bucket.listing().reference_price) == "101.001"


def test_delisted_symbols_are_left_out_of_the_table() -> None:
    bucket = Bucket(AAA=instrument(), BBB=instrument())
    bucket.refer(1000, AAA="101.00", BBB="101.00")
    bucket.define("AAA", instrument(state="delisted"))
    bucket.refer(2000, AAA="102.00", BBB="102.00")
    assert set(bucket.known.references) == {"BBB"}


def test_a_table_that_is_too_large_is_refused() -> None:
    with pytest.raises(FieldError) as caught:
        encode({f"SYMBOL{number:05}": Reference(Decimal(100), Decimal(100), 2**40, 2**30) for number in range(2000)})
    assert caught.value.field == "prices"
    a_thousand = {
        f"SYM{number:04}": Reference(Decimal("1234.56"), Decimal("1234.50"), 2**40, 2**30) for number in range(1000)
    }
    assert len(encode(a_thousand)) < references.MAX_BYTES_TO_ADD


def test_a_full_table_refuses_new_symbols_but_no_update() -> None:
    """Although its entries grow: revisions are 0 at first, and have more digits in the next table; prices grow, too."""
    known = Definitions()
    known.apply(1, TERMS, msgspec.json.encode(msgspec.structs.replace(TERMS_OF_ALL, shares=3000)))
    symbols = [f"SYM{number:04}" for number in range(1999)]
    defined = msgspec.json.encode(instrument(reference_band=Decimal(10)))
    for number, symbol in enumerate(symbols):
        known.apply(10**9 + number, key_of(symbol), defined)

    def prices_of(count: int, price: str, time: int) -> dict[str, FeedPrice]:
        return dict.fromkeys(symbols[:count], FeedPrice(Decimal(price), time, Decimal("100.00")))

    def has_room(count: int) -> bool:
        try:
            updated_references(known, prices_of(count, "99.99", 2**40))
        except FieldError:
            return False
        return True

    full = bisect.bisect_left(range(len(symbols)), True, key=lambda count: not has_room(count + 1))
    assert 1000 < full < len(symbols)
    for time, price in enumerate(("99.99", "100.99", "1000.99"), 2**40):
        value = updated_references(known, prices_of(full, price, time))
        assert value is not None
        assert known.apply(10**9 + time, REFERENCES, value) is None
        one = updated_references(known, prices_of(1, "98.00", time))
        assert one is not None
        assert len(one) <= references.MAX_BYTES
        with pytest.raises(FieldError, match="room"):
            updated_references(known, prices_of(full + 1, price, time))
        assert changes(known, None, {symbols[0]: instrument(quote_size=7, reference_band=Decimal(10))})
        assert changes(known, None, {symbols[0]: instrument(state="delisted")})


@pytest.mark.parametrize(
    "value",
    [
        b"{",
        b"{}",
        b'{"references":{"AAA":["NaN","100.00",1000,0]}}',
        b'{"references":{"AAA":["-1","100.00",1000,0]}}',
        b'{"references":{"AAA":["101.00","100.00",1000]}}',
        b'{"references":{"AAA":["101.00","100.00",1000,0,0]}}',
        b'{"references":{"AAA":["101.00","100.00",1000,99]}}',
    ],
)
def test_an_invalid_table_is_quarantined_and_the_previous_one_stays_in_force(value: bytes) -> None:
    bucket = Bucket(AAA=instrument())
    bucket.refer(1000, AAA="101.00")
    before = bucket.listing()
    assert bucket.known.apply(bucket.known.head + 1, REFERENCES, value)
    assert bucket.listing() == before


prices = st.decimals("99.00", "101.00", places=2).map(str)
steps = st.one_of(
    st.tuples(st.just("refer"), st.integers(0, 20), st.dictionaries(st.sampled_from(SYMBOLS), prices, min_size=1)),
    st.tuples(st.sampled_from(["define", "half"]), st.sampled_from(SYMBOLS), st.sampled_from(["100.00", "100.10"])),
    st.tuples(st.just("tick"), st.sampled_from(SYMBOLS), st.sampled_from(["0.01", "0.05", "0.10"])),
    st.tuples(st.just("state"), st.sampled_from(SYMBOLS), st.sampled_from(["trading", "paused", "delisted"])),
)


@given(st.lists(steps, max_size=30))
def test_revisions_grow_and_each_has_one_price_which_the_audit_finds(actions: list[Any]) -> None:
    """Invariant I12 depends on this."""
    bucket = Bucket(**dict.fromkeys(SYMBOLS, instrument()))
    revisions = {symbol: bucket.listing(symbol).revision for symbol in SYMBOLS}
    for kind, one, other in actions:
        if kind == "refer":
            bucket.refer(one, **other)
        else:
            was = bucket.listing(one).instrument
            field = kind if kind in ("tick", "state") else "reference_price"
            value = other if kind == "state" else Decimal(other)
            until = 1 if kind == "half" else None
            bucket.define(one, msgspec.structs.replace(was, **{field: value}), until)
        for symbol, before in revisions.items():
            revisions[symbol] = bucket.listing(symbol).revision
            assert revisions[symbol] >= before
        assert all(revision <= bucket.known.head for revision in revisions.values())
    for (symbol, revision), listing in bucket.seen.items():
        again = bucket.revisions.listing(symbol, revision)
        assert again is not None
        assert (again.instrument, again.price, again.revision) == (listing.instrument, listing.price, revision)


def test_revisions_before_the_first_kept_table_are_forgotten_unless_it_contains_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("recorded.revisions.KEPT", 2)
    bucket = Bucket(AAA=instrument(), BBB=instrument())
    bucket.refer(1000, AAA="101.00", BBB="101.00")
    first = bucket.known.head
    bucket.refer(2000, AAA="102.00")
    second = bucket.known.head
    kept = Revisions()
    kept.add(1, NOW, TERMS, msgspec.json.encode(TERMS_OF_ALL))
    kept.add(2, NOW, key_of("AAA"), msgspec.json.encode(instrument()))
    kept.add(3, NOW, key_of("BBB"), msgspec.json.encode(instrument()))
    kept.add(second, NOW, REFERENCES, _stored(bucket.known, second))
    bucket.refer(3000, AAA="103.00")
    kept.add(second + 1, NOW, REFERENCES, _stored(bucket.known, second + 1))
    assert kept.is_forgotten("AAA", first)
    assert not kept.is_forgotten("AAA", second)
    assert not kept.is_forgotten("BBB", first), "its price has not changed since"
    found = kept.listing("BBB", first)
    assert found is not None
    assert str(found.reference_price) == "101.00"


def test_revisions_are_forgotten_even_if_a_table_is_missing_or_unreadable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("recorded.revisions.KEPT", 4)
    bucket, kept = Bucket(AAA=instrument()), Revisions()
    kept.add(1, NOW, TERMS, msgspec.json.encode(TERMS_OF_ALL))
    kept.add(2, NOW, key_of("AAA"), msgspec.json.encode(instrument()))
    for number in range(1, 6):
        bucket.refer(number, AAA=f"100.0{number}")
        if number >= 3:  # the first was dropped when the fifth was stored, the second while they are read
            head = bucket.known.head
            kept.add(head, NOW, REFERENCES, b"{" if number == 4 else _stored(bucket.known, head))
    assert kept.is_forgotten("AAA", bucket.known.head - 4)
    assert not kept.is_forgotten("AAA", bucket.known.head)


def _stored(known: Definitions, sequence: int) -> bytes:
    """Return the table as it was stored at `sequence`."""
    return encode(
        {
            symbol: msgspec.structs.replace(each, revision=0 if each.revision == sequence else each.revision)
            for symbol, each in known.references.items()
        }
    )


# --- requests ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"time":"2026-11-23T05:49:24Z","prices":{"AAA":true}}', "prices.AAA"),
        ('{"time":"2026-11-23T05:49:24Z","prices":{"BBB":"1.00","AAA":"NaN"}}', "prices.AAA"),
        ('{"time":"2026-11-23T05:49:24Z","prices":{"AAA":"-1.00"}}', "prices.AAA"),
        ('{"time":"2026-11-23T05:49:24Z","prices":{"AAA":"1_0"}}', "prices.AAA"),
        ('{"time":"2026-11-23T05:49:24Z","prices":{"AAA":null}}', "prices.AAA"),
        ('{"time":"2026-11-23T05:49:24Z","prices":{"AAA":[]}}', "prices.AAA"),
        ('{"time":"2026-11-23T05:49:24Z","prices":{"AAA":"1.00","AAA":"1.00"}}', "AAA"),
        ('{"time":"2026-11-23T05:49:24Z","prices":{}}', "prices"),
        ('{"time":"2026-11-23T05:49:24","prices":{"AAA":"1.00"}}', "time"),
        ('{"time":"2026-11-23T05:49:24Z","prices":{"AAA":"1.00"},"source":"x"}', "source"),
        ('{"prices":{"AAA":"1.00"}}', "time"),
    ],
)
def test_an_invalid_request_is_refused_by_its_field(body: str, field: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        StrictDecoder(PutReferences).decode(body.encode())
    assert field in str(caught.value)


def test_a_valid_request_is_decoded() -> None:
    body = b'{"time":"2026-11-23T05:49:24.477259Z","prices":{"AAA":"231.52","BTC-USD":68250.5}}'
    found = StrictDecoder(PutReferences).decode(body)
    assert {symbol: str(price) for symbol, price in found.prices.items()} == {"AAA": "231.52", "BTC-USD": "68250.5"}


def test_the_key_of_the_table_is_not_that_of_a_symbol() -> None:
    with pytest.raises(ValueError, match="no symbol"):
        definitions.symbol_of(REFERENCES)
