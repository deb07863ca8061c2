"""The market log is complete."""

from collections.abc import Iterable

import msgspec
import pytest

from audit.check import verdicts
from audit.completeness import Completeness
from audit.findings import Status, Verdict
from recorded.replay import Replay
from support.audit import SHARDS, Script, busy, text_of


def completeness(script: Script, *, without: Iterable[int] = ()) -> Verdict:
    """The verdict on a log without some of its messages."""
    check = Completeness()
    replay = Replay([check], SHARDS)
    for index, (place, payload) in enumerate(script.messages):
        if index not in without:
            check.arrived(place)
            replay.feed(place, payload)
    return verdicts([check], replay, script.end)[0]


def test_a_sound_log_is_complete() -> None:
    verdict = completeness(busy())
    assert verdict.status is Status.PROVED
    assert verdict.checked == "15 messages of 2 streams"


def test_missing_messages_are_found() -> None:
    verdict = completeness(busy(), without=[0, 3, 4])
    assert verdict.status is Status.REFUTED
    assert "MARKET-1 #1  {} messages 1 to 1 are missing" in text_of(verdict)
    assert "MARKET-1 #3  {} messages 3 to 4 are missing" in text_of(verdict)


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b'[{"fill_id": "x"}]', b"\xff", b"[" * 5000])
def test_an_invalid_message_is_found(payload: bytes) -> None:
    script = busy()
    at = script.raw("fills.1.AAA", payload)
    verdict = completeness(script)
    assert verdict.contradictions == 1
    assert f"MARKET-1 #{at.sequence} fills.1.AAA" in text_of(verdict)


def test_an_unreadable_quote_event_is_found() -> None:
    script = busy()
    script.raw("quotes.0.XXX", b'{"type": "cancelled"}')
    assert "the message cannot be read" in text_of(completeness(script))


def test_fills_on_another_symbols_subject_are_found() -> None:
    script = Script()
    script.quote()
    script.raw("fills.0.XXX", msgspec.json.encode([script.fill()]))
    assert "the message is misplaced: it holds a fill of AAA" in text_of(completeness(script))


def test_a_symbol_in_another_ones_shard_is_found() -> None:
    script = Script()
    script.quote()
    script.raw("fills.0.AAA", msgspec.json.encode([script.fill()]))
    assert "the message is misplaced: it belongs on fills.1.AAA" in text_of(completeness(script))


def test_an_event_of_another_symbol_is_found() -> None:
    script = Script()
    script.raw("quotes.0.XXX", msgspec.json.encode(script.quote()))
    assert "the message is misplaced: it is an event of AAA" in text_of(completeness(script))


def test_a_log_that_ends_before_what_a_ledger_has_applied_is_incomplete() -> None:
    check = Completeness()
    check.applied("MARKET-0", 10, 10, "ledger.sqlite")
    assert check.found.count == 0
    check.applied("MARKET-0", 10, 12, "ledger.sqlite")
    assert check.found.kept[0].detail == "it ends at 10, but ledger.sqlite has applied it up to 12"


def test_a_stream_that_ended_early_is_found() -> None:
    check = Completeness()
    check.ended("MARKET-0", 3)
    assert check.found.kept[0].detail == "messages 1 to 3 are missing"
