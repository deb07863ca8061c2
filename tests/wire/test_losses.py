"""The calculation of losses, and the fold of pauses for a loss."""

from decimal import Decimal

import msgspec
import pytest

from support.builders import NOW
from wire import subjects
from wire.losses import Latch, Latches, Scope, loss_of, pause_text
from wire.switches import LossPaused, LossResumed

PAUSED = LossPaused(at=NOW, loss=Decimal(1100), max_loss=Decimal(1000))
LATER = LossPaused(at=NOW, loss=Decimal(2200), max_loss=Decimal(1000), acknowledged=Decimal(1100))
RESUMED = LossResumed(at=NOW, acknowledged=Decimal(1100))


@pytest.mark.parametrize(
    ("net", "cash", "multiplier", "mark", "loss"),
    [
        (0, "0", "1", "100", "0"),
        (0, "-12.5", "1", "100", "12.5"),
        (3, "-330", "1", "100", "30"),
        (-3, "270", "1", "100", "30"),
        (3, "-3000", "10", "100.5", "-15"),
    ],
)
def test_a_loss_is_minus_the_total_profit(net: int, cash: str, multiplier: str, mark: str, loss: str) -> None:
    assert loss_of(net, Decimal(cash), Decimal(multiplier), Decimal(mark)) == Decimal(loss)


def folded(*messages: LossPaused | LossResumed, scope: Scope = "AAA") -> Latches:
    latches = Latches()
    for sequence, message in enumerate(messages, start=1):
        subject = subjects.loss_key(scope, paused=isinstance(message, LossPaused))
        assert latches.apply(sequence, subject, msgspec.json.encode(message)) is None
    return latches


@pytest.mark.parametrize(
    ("messages", "latch"),
    [
        ((), Latch()),
        ((PAUSED,), Latch(1, PAUSED)),
        ((PAUSED, RESUMED), Latch(2, None, Decimal(1100))),
        ((PAUSED, RESUMED, LATER), Latch(3, LATER, Decimal(1100))),
        ((PAUSED, RESUMED, LATER, RESUMED), Latch(4, None, Decimal(1100))),
    ],
)
@pytest.mark.parametrize("scope", ["AAA", "paused", None])
def test_the_last_message_counts(messages: tuple[LossPaused | LossResumed, ...], latch: Latch, scope: Scope) -> None:
    latches = folded(*messages, scope=scope)
    assert latches.of(scope) == latch
    assert dict(latches.paused) == ({scope: latch.paused} if latch.paused else {})
    assert latches.of("other") == Latch()
    assert latches.pause_of("other") == (latch.paused if scope is None else None)


@pytest.mark.parametrize("value", [b"", b"{}", b"\xff", b'{"at":"2026-01-05T09:30:00Z","acknowledged":"-1"}'])
@pytest.mark.parametrize("before", [(PAUSED,), (PAUSED, RESUMED)])
@pytest.mark.parametrize("paused", [True, False])
def test_an_unreadable_message_changes_only_the_head(
    before: tuple[LossPaused | LossResumed, ...], value: bytes, *, paused: bool
) -> None:
    latches = folded(*before)
    before_it = latches.of("AAA")
    assert latches.apply(9, subjects.loss_key("AAA", paused=paused), value)
    assert latches.of("AAA") == before_it._replace(head=9)


def test_a_message_that_no_process_of_the_system_appended_changes_only_the_head() -> None:
    latches = folded(PAUSED)
    key = subjects.loss_key("AAA", paused=False)
    assert latches.apply(2, key, msgspec.json.encode(RESUMED), counts=False)
    assert latches.of("AAA") == Latch(2, PAUSED)


def test_a_message_that_was_folded_before_is_skipped() -> None:
    latches = folded(PAUSED, RESUMED)
    assert latches.apply(1, subjects.loss_key("AAA", paused=True), msgspec.json.encode(LATER)) is None
    assert latches.of("AAA").paused is None


@pytest.mark.parametrize(
    "subject", ["$KV.switches.quoting", "$KV.switches.loss.gone", "$KV.switches.loss.paused.a.b", "quotes.0.AAA"]
)
def test_other_subjects_are_quarantined(subject: str) -> None:
    assert Latches().apply(1, subject, msgspec.json.encode(PAUSED))


def test_the_text_for_people_says_since_when_why_and_how_to_resume() -> None:
    assert pause_text("AAA", LATER, "./qs") == (
        "paused since 2026-01-05 09:30:00 UTC: its loss of 2200 reached 1000 beyond the 1100 acknowledged last; "
        "./qs resume AAA"
    )
    assert pause_text(None, PAUSED, "./qs").endswith("its loss of 1100 reached 1000; ./qs resume --total")
