"""I4, I5 and I6, each on logs doctored to break it."""

from datetime import timedelta
from decimal import Decimal

import pytest

from audit.check import Check
from audit.executions import OncePerOrder, OnTheActiveQuote, WithinQuantity
from audit.findings import Status
from support.audit import LIFETIME, Script, busy, place_of, text_of

WINDOW = timedelta(seconds=120)
GRACE = timedelta(seconds=2)


@pytest.mark.parametrize(
    "check", [OnTheActiveQuote(GRACE), WithinQuantity(), OncePerOrder(WINDOW)], ids=lambda c: c.code
)
def test_a_sound_log_proves_it(check: Check) -> None:
    verdict = busy().verdict(check)
    assert verdict.status is Status.PROVED, text_of(verdict)


# --- I4 ---------------------------------------------------------------------------------------------------------------


def quoted_twice() -> Script:
    """AAA-v0-a1, replaced by AAA-v0-a2."""
    script = Script()
    script.quote()
    script.quote()
    return script


def test_a_fill_on_a_replaced_quote_is_found() -> None:
    script = quoted_twice()
    script.trade(quote_id="AAA-v0-a1")
    verdict = script.verdict(OnTheActiveQuote(GRACE))
    assert verdict.status is Status.REFUTED
    assert place_of(script) in text_of(verdict)
    assert "AAA-f1: executed on AAA-v0-a1, which was replaced by AAA-v0-a2 at #2" in text_of(verdict)
    assert "'order_id': 'order-1'" in text_of(verdict)


def test_a_fill_on_a_withdrawn_quote_is_found() -> None:
    script = quoted_twice()
    script.withdraw()
    script.trade(remaining_bid_quantity=0, remaining_ask_quantity=0)
    assert "AAA-f1: executed on AAA-v0-a2, which was withdrawn" in text_of(script.verdict(OnTheActiveQuote(GRACE)))


def test_a_fill_on_an_unknown_quote_is_found() -> None:
    script = quoted_twice()
    script.trade(quote_id="made-up")
    assert "executed on made-up, but the latest quote is AAA-v0-a2" in text_of(script.verdict(OnTheActiveQuote(GRACE)))


def test_a_fill_of_a_symbol_that_was_never_quoted_is_found() -> None:
    script = Script()
    script.quote()
    script.messages.clear()
    script.trade()
    assert "but AAA was never quoted" in text_of(script.verdict(OnTheActiveQuote(GRACE)))


def test_a_fill_at_the_very_expiry_is_told_and_one_before_is_fine() -> None:
    script = Script()
    event = script.quote()
    script.trade(created_at=event.expires_at - timedelta(microseconds=1))
    script.trade(created_at=event.expires_at)
    verdict = script.verdict(OnTheActiveQuote(GRACE))
    assert verdict.contradictions == 1
    assert "AAA-f2: executed at 2026-01-05T09:30:30+00:00, when AAA-v0-a1 had expired" in text_of(verdict)


@pytest.mark.parametrize("activated", [-0.5, 0.0, 0.02, 1.0])
@pytest.mark.parametrize(("created", "refuted"), [(0.0, 0), (-0.02, 0), (-1.0, 0), (-1.001, 1), (-3600.0, 1)])
def test_a_fill_is_too_early_only_beyond_half_the_grace(activated: float, created: float, refuted: int) -> None:
    """Times are in seconds after the broker stored the activation, each by the clock of another exchange."""
    script = Script()
    stored = script.now
    expires = stored + LIFETIME
    script.quote(activated_at=stored + timedelta(seconds=activated), expires_at=expires)
    script.trade(created_at=stored + timedelta(seconds=created))
    verdict = script.verdict(OnTheActiveQuote(GRACE))
    assert verdict.contradictions == refuted, text_of(verdict)
    assert ("before AAA-v0-a1 was active" in text_of(verdict)) is bool(refuted)


def test_a_fill_on_a_quote_whose_append_took_long_is_fine() -> None:
    script = Script()
    began = script.now
    script.wait(5.0)
    script.quote(activated_at=began, expires_at=began + LIFETIME)
    script.report(quote_id="AAA-v0-a1", created_at=began, remaining_bid_quantity=10, remaining_ask_quantity=9)
    assert script.verdict(OnTheActiveQuote(GRACE)).status is Status.PROVED


def test_a_fill_at_another_price_is_found() -> None:
    script = Script()
    event = script.quote()
    script.trade("AAA", "sell", price=event.ask_price)
    findings = text_of(script.verdict(OnTheActiveQuote(GRACE)))
    assert f"AAA-f1: executed a sell at {event.ask_price}, where AAA-v0-a1 has {event.bid_price}" in findings


def test_a_fill_beyond_its_orders_limit_is_found() -> None:
    script = Script()
    event = script.quote()
    tick = Decimal("0.01")
    script.trade("AAA", "buy", limit_price=event.ask_price - tick)
    script.trade("AAA", "sell", limit_price=event.bid_price + tick)
    script.trade("AAA", "sell", limit_price=event.bid_price - tick)
    verdict = script.verdict(OnTheActiveQuote(GRACE))
    assert verdict.contradictions == 2
    assert f"AAA-f1: its limit {event.ask_price - tick} does not cross the price {event.ask_price}" in text_of(verdict)


def test_a_fill_larger_than_its_order_is_found() -> None:
    script = Script()
    script.quote()
    script.trade("AAA", "buy", 5, order_quantity=4)
    assert "AAA-f1: executes 5 of an order of 4" in text_of(script.verdict(OnTheActiveQuote(GRACE)))


def test_a_reported_fill_may_name_any_other_quote_at_any_price_and_time() -> None:
    script = Script()
    event = script.quote()
    script.report(price=Decimal("1.00"), created_at=event.activated_at - timedelta(days=1))
    script.withdraw()
    script.report()
    verdict = script.verdict(OnTheActiveQuote(GRACE))
    assert verdict.status is Status.PROVED
    assert "2 fills were executed elsewhere and reported" in verdict.remarks[0]
    assert script.verdict(WithinQuantity()).status is Status.PROVED


def test_a_report_on_the_latest_quote_is_checked_against_it() -> None:
    script = Script()
    event = script.quote()
    script.report(quote_id=event.quote_id, quantity=3)
    assert script.verdict(OnTheActiveQuote(GRACE)).status is Status.PROVED
    assert script.verdict(WithinQuantity()).status is Status.PROVED
    script.report(quote_id=event.quote_id, price=event.bid_price)
    assert "AAA-v0-a1 has" in text_of(script.verdict(OnTheActiveQuote(GRACE)))


def test_a_report_on_a_withdrawn_quote_is_found() -> None:
    script = Script()
    event = script.quote()
    script.withdraw()
    script.report(quote_id=event.quote_id, remaining_bid_quantity=0, remaining_ask_quantity=0)
    assert "was reported on AAA-v0-a1, which was withdrawn" in text_of(script.verdict(OnTheActiveQuote(GRACE)))


def test_after_the_logged_expiry_of_a_quote_it_may_be_reported_on_but_not_execute() -> None:
    script = Script()
    event = script.quote()
    script.withdraw(reason="expired")
    script.report(quote_id=event.quote_id, remaining_bid_quantity=0, remaining_ask_quantity=0)
    assert script.verdict(OnTheActiveQuote(GRACE)).status is Status.PROVED
    script.trade(remaining_bid_quantity=0, remaining_ask_quantity=0)
    assert "AAA-f2: executed on AAA-v0-a1, which had expired" in text_of(script.verdict(OnTheActiveQuote(GRACE)))


# --- I5 ---------------------------------------------------------------------------------------------------------------


def test_fills_beyond_the_quantity_are_found() -> None:
    script = Script()
    script.quote()
    script.trade("AAA", "buy", 6)
    script.append(script.fill("AAA", "sell", 6), script.fill("AAA", "buy", 5))
    verdict = script.verdict(WithinQuantity())
    assert verdict.status is Status.REFUTED
    assert verdict.contradictions == 1
    assert place_of(script) in text_of(verdict)
    assert "with AAA-f3, 11 lots of AAA-v0-a1's ask have executed; it has 10" in text_of(verdict)


def test_remaining_quantities_in_fills_must_be_right() -> None:
    script = Script()
    script.quote()
    script.trade("AAA", "buy", 4, remaining_ask_quantity=7)
    verdict = script.verdict(WithinQuantity())
    assert "AAA-f1 states 10/7 as remaining (bid/ask), but 10/6 remains" in text_of(verdict)


def test_a_new_quote_begins_anew() -> None:
    script = Script()
    for _ in range(3):
        script.quote()
        script.trade("AAA", "buy", 10)
    assert script.verdict(WithinQuantity()).status is Status.PROVED


def test_a_report_on_another_quote_must_not_change_remaining_quantities() -> None:
    script = Script()
    script.quote()
    script.report("AAA", "buy", 3, remaining_ask_quantity=7)
    assert "elsewhere-0 states 10/7 as remaining" in text_of(script.verdict(WithinQuantity()))


# --- I6 ---------------------------------------------------------------------------------------------------------------


def test_an_order_id_that_executes_twice_is_found_over_all_symbols() -> None:
    script = Script()
    script.quote("AAA")
    script.quote("XXX")
    script.trade("AAA", order_id="mine")
    script.wait(10)
    script.trade("XXX", order_id="mine")
    verdict = script.verdict(OncePerOrder(WINDOW))
    assert verdict.status is Status.REFUTED
    assert place_of(script) in text_of(verdict)
    assert "order mine executes again, as XXX-f1, 10.001 s apart from AAA-f1" in text_of(verdict)


def test_an_order_id_that_executes_twice_in_one_message_is_found() -> None:
    script = Script()
    script.quote()
    script.append(script.fill(order_id="mine"), script.fill(order_id="mine"))
    assert script.verdict(OncePerOrder(WINDOW)).contradictions == 1


def test_beyond_the_window_an_id_may_be_used_again() -> None:
    script = Script()
    script.quote(expires_at=script.now + 100 * LIFETIME)
    for _ in range(3):
        script.trade(order_id="mine")
        script.wait(WINDOW.total_seconds())
    assert script.verdict(OncePerOrder(WINDOW)).status is Status.PROVED


def test_the_window_counts_from_the_latest_execution_of_an_id() -> None:
    script = Script()
    script.quote(expires_at=script.now + 100 * LIFETIME)
    script.trade(order_id="mine")
    script.wait(WINDOW.total_seconds())
    script.trade(order_id="mine")
    script.wait(WINDOW.total_seconds() - 1)
    script.trade(order_id="other")
    script.trade(order_id="mine")
    assert script.verdict(OncePerOrder(WINDOW)).contradictions == 1


def test_ids_older_than_the_window_are_forgotten() -> None:
    script = Script()
    script.quote(expires_at=script.now + 1000 * LIFETIME)
    check = OncePerOrder(WINDOW)
    for _ in range(30):
        script.trade()
        script.wait(30)
    script.replay(check)
    assert len(check._recent) == len(check._oldest) <= 5


def test_several_reported_fills_of_one_order_are_fine() -> None:
    script = Script()
    script.quote()
    script.report(order_id="elsewhere")
    script.report(order_id="elsewhere")
    assert script.verdict(OncePerOrder(WINDOW)).status is Status.PROVED


def test_fills_of_a_quarantined_message_count_as_well() -> None:
    script = Script()
    script.quote()
    fill = script.trade()
    script.append(fill)
    assert script.verdict(OncePerOrder(WINDOW)).contradictions == 1
