"""The status shows a live quote, whoever made it, and reports why there is none."""

from datetime import timedelta

import msgspec
import pytest

from maker.plan import Memory, Propose, Step, View, Wait, Withdraw
from maker.status import (
    MAX_NAMED,
    MAX_REPORTED,
    LastRefusal,
    SymbolStatus,
    not_quoted,
    notices,
    symbol_status,
    unquoted,
)
from support.builders import NOW, quote_activated, recorded_fill
from wire.market import SymbolMarket
from wire.positions import Position


def status(step: Step, seconds: float = 0.0) -> SymbolStatus:
    """Return the status of AAA: 3 lots short at version 7, with attempt 2 of that version quoted for 30 seconds."""
    view = View(SymbolMarket("AAA"), Position(symbol="AAA", net_quantity=-3, position_version=7), current=True)
    view.market.apply_quote(1, quote_activated(position_version=7, attempt=2))
    return symbol_status(view, Memory(), step, None, NOW + timedelta(seconds=seconds))


def test_a_live_quote_is_in_the_status() -> None:
    shown = status(Wait("quoting", NOW + timedelta(seconds=20)))
    assert (shown.position_version, shown.net_quantity) == (7, -3)
    assert (shown.quote_id, shown.attempt) == ("AAA-v7-a2", 2)
    assert (shown.state, shown.next_action_at) == ("quoting", NOW + timedelta(seconds=20))


def test_an_expired_quote_is_not_in_the_status() -> None:
    shown = status(Wait("backing_off"), seconds=30)
    assert (shown.state, shown.quote_id, shown.attempt) == ("backing_off", None, None)


@pytest.mark.parametrize(
    ("step", "state", "attempt"),
    [
        (Propose(Position(symbol="AAA", net_quantity=0, position_version=7), 3, "refresh", None), "proposing", 3),
        (Withdraw("AAA-v7-a2"), "withdrawing", 2),
    ],
)
def test_an_action_under_way_is_in_the_status(step: Step, state: str, attempt: int) -> None:
    shown = status(step)
    assert (shown.state, shown.attempt, shown.next_action_at) == (state, attempt, None)


def test_a_position_that_cannot_be_known_yet_is_null() -> None:
    """There are fills, but the ledger has published no position."""
    view = View(SymbolMarket("AAA"))
    view.market.apply_fills(1, [recorded_fill()])
    shown = symbol_status(view, Memory(), Wait("waiting_for_position"), None, NOW)
    assert (shown.position_version, shown.net_quantity) == (None, None)


@pytest.mark.parametrize(
    ("step", "seconds", "why"),
    [
        (Wait("quoting"), 0, None),
        (Wait("backing_off"), 0, None),
        (Wait("backing_off"), 30, "attempt-too-far"),
        (Wait("standing_by"), 30, "attempt-too-far"),
        (Wait("waiting_for_position"), 30, "waiting_for_position"),
        (Wait("waiting_for_feeds"), 30, None),
        (Wait("paused"), 30, None),
    ],
)
def test_a_symbol_that_is_not_quoted_is_reported_with_its_reason(step: Step, seconds: float, why: str | None) -> None:
    """A symbol with a live quote counts as quoted, and one that should not be quoted is not reported."""
    refusal = LastRefusal(at=NOW, quote_id="AAA-v7-a3", reason="attempt-too-far")
    reported = msgspec.structs.replace(status(step, seconds), last_refusal=refusal)
    assert not_quoted([reported]) == ({"AAA": why} if why else {})
    assert notices([reported]) == ({"AAA": f"not quoted: {why}"} if why else {})


def test_notices_name_a_limited_number_of_symbols() -> None:
    one = status(Wait("waiting_for_position"), 30)
    many = [msgspec.structs.replace(one, symbol=f"S{number}") for number in range(MAX_NAMED + 7)]
    reported = notices(many)
    assert len(reported) == MAX_NAMED + 1
    assert reported["and"] == "7 more symbols are not quoted"


@pytest.mark.parametrize(
    ("step", "seconds", "reported"),
    [
        (Wait("backing_off"), 0, {}),
        (Wait("quoting"), 30, {}),
        (Wait("backing_off"), 30, {"attempt-too-far": ["AAA"]}),
        (Wait("paused"), 30, {"paused": ["AAA"]}),
        (Wait("waiting_for_feeds"), 30, {"waiting_for_feeds": ["AAA"]}),
    ],
)
def test_every_symbol_without_a_quote_is_reported_to_other_processes_with_its_reason(
    step: Step, seconds: float, reported: dict[str, list[str]]
) -> None:
    refusal = LastRefusal(at=NOW, quote_id="AAA-v7-a3", reason="attempt-too-far")
    assert unquoted([msgspec.structs.replace(status(step, seconds), last_refusal=refusal)]) == (reported, 0)


def test_the_report_to_other_processes_names_a_limited_number_of_symbols() -> None:
    one = status(Wait("paused"), 30)
    named, more = unquoted(msgspec.structs.replace(one, symbol=f"S{number}") for number in range(MAX_REPORTED + 7))
    assert (len(named["paused"]), more) == (MAX_REPORTED, 7)
