"""I1 and I10, each on a log that was changed to break it."""

from audit.findings import Status
from audit.quotes import OneActive, OnlyNewer
from support.audit import Script, busy, place_of, text_of


def test_a_sound_log_proves_both() -> None:
    for check in (OneActive(), OnlyNewer()):
        verdict = busy().verdict(check)
        assert verdict.status is Status.PROVED, text_of(verdict)


def test_withdrawing_a_quote_that_is_not_the_latest_leaves_two_active() -> None:
    script = Script()
    first = script.quote()
    script.quote()
    script.withdraw(quote_id=first.quote_id)
    verdict = script.verdict(OneActive())
    assert verdict.status is Status.REFUTED
    assert place_of(script) in text_of(verdict)
    assert "AAA-v0-a1 is withdrawn, but the active quote is AAA-v0-a2" in text_of(verdict)


def test_withdrawing_twice_is_found() -> None:
    script = Script()
    script.quote()
    script.withdraw()
    script.withdraw()
    verdict = script.verdict(OneActive())
    assert verdict.contradictions == 1
    assert "no quote is active: AAA-v0-a1 was withdrawn before" in text_of(verdict)


def test_withdrawing_a_quote_that_never_was_active_is_found() -> None:
    script = Script()
    event = script.quote()
    script.messages.clear()
    script.withdraw()
    assert f"{event.quote_id} is withdrawn, but no quote was ever active" in text_of(script.verdict(OneActive()))


def test_withdrawing_with_another_attempt_is_found() -> None:
    script = Script()
    script.quote()
    script.withdraw(attempt=7)
    assert "another reservation, version, revision or attempt" in text_of(script.verdict(OneActive()))


def test_an_execution_on_a_replaced_quote_means_that_two_were_active() -> None:
    script = Script()
    first = script.quote()
    script.quote()
    script.trade(quote_id=first.quote_id)
    verdict = script.verdict(OneActive())
    assert verdict.status is Status.REFUTED
    assert "AAA-v0-a1 executes beside AAA-v0-a2, though it was replaced by AAA-v0-a2 at #2" in text_of(verdict)
    assert "'fill_id': 'AAA-f1'" in text_of(verdict)


def test_a_quote_of_an_older_version_must_not_replace_another() -> None:
    script = Script()
    script.quote()
    script.trade()
    script.quote()
    script.quote(position_version=0, attempt=9)
    verdict = script.verdict(OnlyNewer())
    assert verdict.status is Status.REFUTED
    assert place_of(script) in text_of(verdict)
    assert "AAA-v0-a9 of version 0, attempt 9 replaces AAA-v1-a1 of version 1, attempt 1" in text_of(verdict)


def test_a_quote_of_an_older_revision_must_not_replace_another_even_at_a_newer_position() -> None:
    script = Script()
    script.quote(revision=57)
    script.trade()
    script.quote(revision=50)
    assert "revision 50, attempt 1 replaces AAA-v0-r57-a1" in text_of(script.verdict(OnlyNewer()))


def test_a_quote_of_the_same_attempt_must_not_replace_another() -> None:
    script = Script()
    script.quote()
    script.quote(attempt=1)
    assert script.verdict(OnlyNewer()).contradictions == 1


def test_a_withdrawal_does_not_make_older_quotes_new() -> None:
    script = Script()
    script.quote(attempt=5)
    script.withdraw()
    script.quote(attempt=5)
    assert script.verdict(OnlyNewer()).contradictions == 1
