"""Why symbols are not quoted, as makers report."""

from decimal import Decimal
from typing import get_args

import msgspec
import pytest

from maker.plan import WaitState
from support.builders import NOW
from ui.unquoted import NO_MAKER, NOT_NAMED, REASON_TEXTS, Unquoted, unquoted
from wire import subjects
from wire.losses import Latches
from wire.processes import ProcessReport
from wire.switches import LossPaused


def maker(more: int = 0, **symbols: str) -> ProcessReport:
    """A maker's report, with a reason for each symbol."""
    named: dict[str, list[str]] = {}
    for symbol, reason in symbols.items():
        named.setdefault(reason, []).append(symbol)
    return ProcessReport(process="maker", uptime=1.0, ready=True, unquoted=named, more_unquoted=more)


LATCHES = Latches()
LATCHES.apply(
    1,
    subjects.loss_key("AAA", paused=True),
    msgspec.json.encode(LossPaused(at=NOW, loss=Decimal("1012.4"), max_loss=Decimal(1000))),
)


@pytest.mark.parametrize(
    ("makers", "symbols", "others"),
    [
        ([], {}, NO_MAKER),
        ([maker()], {}, ""),
        ([maker(AAA="paused", BBB="no_price")], {"AAA": REASON_TEXTS["paused"], "BBB": REASON_TEXTS["no_price"]}, ""),
        ([maker(AAA="standing_by"), maker(AAA="no_price")], {"AAA": REASON_TEXTS["no_price"]}, ""),
        ([maker(AAA="no_price"), maker(AAA="standing_by")], {"AAA": REASON_TEXTS["no_price"]}, ""),
        ([maker(AAA="standing_by"), maker(AAA="standing_by")], {"AAA": REASON_TEXTS["standing_by"]}, ""),
        ([maker(AAA="a-refusal-of-tomorrow")], {"AAA": "a-refusal-of-tomorrow"}, ""),
        ([maker(AAA="loss_paused", BBB="paused")], {"AAA": "lost 1012 at 09:30", "BBB": REASON_TEXTS["paused"]}, ""),
        ([maker(CCC="loss_paused")], {"CCC": REASON_TEXTS["loss_paused"]}, ""),
        ([maker(more=3, AAA="paused")], {"AAA": REASON_TEXTS["paused"]}, NOT_NAMED),
    ],
)
def test_the_most_specific_reason_is_shown(makers: list[ProcessReport], symbols: dict[str, str], others: str) -> None:
    assert unquoted(makers, LATCHES) == Unquoted(symbols=symbols, others=others)


def test_every_state_of_a_maker_has_a_text() -> None:
    assert {*get_args(WaitState), "proposing"} - {"quoting"} <= set(REASON_TEXTS)


ROOM = 25
"""Characters that fit in a row of the page."""


def test_every_reason_fits_in_its_row() -> None:
    assert [text for text in (*REASON_TEXTS.values(), NO_MAKER, NOT_NAMED) if len(text) > ROOM] == []
