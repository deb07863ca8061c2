"""The parameters of an instrument are checked."""

from decimal import Decimal

import pytest

from support.builders import instrument
from wire.units import FieldError


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"tick": Decimal(0)}, "tick"),
        ({"tick": Decimal("1E+1")}, "tick"),
        ({"tick": Decimal("0.0000001")}, "tick"),
        ({"tick": Decimal("0.010000000000000")}, "tick"),
        ({"reference_price": Decimal("2E+2")}, "reference_price"),
        ({"reference_price": Decimal("100.001")}, "reference_price"),
        ({"quote_size": 0}, "quote_size"),
        ({"bid_size": 0}, "bid_size"),
        ({"ask_size": 1_000_001}, "ask_size"),
        ({"max_position": 0}, "max_position"),
        ({"max_position": -5}, "max_position"),
        ({"max_loss": Decimal(0)}, "max_loss"),
        ({"max_loss": Decimal(-5)}, "max_loss"),
        ({"max_loss": Decimal("NaN")}, "max_loss"),
        ({"max_loss": Decimal("Infinity")}, "max_loss"),
        ({"max_loss": Decimal("0.0000000000001")}, "max_loss"),
        ({"max_loss": Decimal("1E+22")}, "max_loss"),
        ({"min_spread": -1}, "min_spread"),
        ({"min_spread": 1_000_001}, "min_spread"),
        ({"gamma": Decimal(0)}, "gamma"),
        ({"k": Decimal("NaN")}, "k"),
        ({"a": Decimal(-1)}, "a"),
        ({"sigma": Decimal(-1)}, "sigma"),
    ],
)
def test_invalid_parameters_are_refused_by_their_field(change: dict[str, object], field: str) -> None:
    with pytest.raises(FieldError) as caught:
        instrument(**change)
    assert caught.value.field == field
