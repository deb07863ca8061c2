"""The checker finds nothing in a correct run, and refutes every doctored one."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import msgspec
import pytest

from chaos.checker import ClientOutcome, Entry, Findings, most_shown, outcomes, verify
from support.builders import NOW, order, quote_activated, recorded_fill
from wire.orders import OrderResult, RecordedFill
from wire.positions import Position
from wire.quotes import QuoteWithdrawn

LIMIT = 100


class Recorded:
    """A correct run of one symbol: a quote of 10 × 10, a buy of 4, a sell of 3, and a rejected order."""

    def __init__(self) -> None:
        self.buy = recorded_fill(number=1, quantity=4, order_quantity=4, remaining_ask_quantity=6)
        self.sell = recorded_fill(
            number=2,
            side="sell",
            quantity=3,
            order_quantity=5,
            price=Decimal("99.90"),
            limit_price=Decimal("1.00"),
            remaining_bid_quantity=7,
            remaining_ask_quantity=6,
        )
        self.log = [entry(0, 1, quote_activated()), entry(1, 2, [self.buy]), entry(2, 3, [self.sell])]
        self.orders = {known.order.order_id: known for known in (filled(self.buy), filled(self.sell), rejected("none"))}
        self.positions = [Position(symbol="AAA", net_quantity=-1, position_version=2, last_fill_id="AAA-f2")]

    def verify(self) -> Findings:
        return verify(self.orders, self.log, self.positions, limit=LIMIT)


def entry(seconds: float, sequence: int, content: object, shard: int = 0) -> Entry:
    return Entry(NOW + timedelta(seconds=seconds), shard, sequence, content)  # type: ignore[arg-type] # as given


def filled(fill: RecordedFill) -> ClientOutcome:
    known = order(
        order_id=fill.order_id,
        symbol=fill.symbol,
        side=fill.side,
        quantity=fill.order_quantity,
        limit_price=fill.limit_price,
    )
    leaves = fill.order_quantity - fill.quantity
    result = OrderResult(
        order_id=fill.order_id,
        symbol=fill.symbol,
        status="partially_filled" if leaves else "filled",
        filled_quantity=fill.quantity,
        leaves_quantity=leaves,
        fills=[fill.fill],
    )
    return ClientOutcome(order=known, outcome=result.status, result=result)


def rejected(order_id: str) -> ClientOutcome:
    result = OrderResult(
        order_id=order_id,
        symbol="AAA",
        status="rejected",
        filled_quantity=0,
        leaves_quantity=5,
        fills=[],
        reason="not_marketable",
    )
    return ClientOutcome(order=order(order_id=order_id), outcome="rejected.not_marketable", result=result)


def test_a_correct_run_is_clean() -> None:
    findings = Recorded().verify()
    assert findings == Findings(most=10)
    assert findings.clean


def test_orders_are_counted_by_outcome() -> None:
    assert outcomes(Recorded().orders) == {"filled": 1, "partially_filled": 1, "rejected.not_marketable": 1}


def test_an_acknowledged_fill_that_is_not_in_the_log_is_lost() -> None:
    run = Recorded()
    del run.log[2]
    assert [finding for finding in run.verify().lost if "AAA-f2" in finding]


def test_an_acknowledged_fill_with_other_content_is_lost() -> None:
    run = Recorded()
    run.log[1] = entry(1, 2, [msgspec.structs.replace(run.buy, created_at=NOW + timedelta(seconds=1))])
    assert run.verify().lost


def test_an_order_that_executed_twice_is_doubled() -> None:
    run = Recorded()
    again = recorded_fill(
        number=3, order_id=run.buy.order_id, quantity=4, remaining_bid_quantity=7, remaining_ask_quantity=2
    )
    run.log.append(entry(3, 4, [again]))
    assert len(run.verify().doubled) == 1


def test_a_fill_that_is_in_the_log_twice_is_doubled() -> None:
    run = Recorded()
    run.log.append(entry(3, 4, [run.sell]))
    assert [finding for finding in run.verify().doubled if finding.startswith("fill AAA-f2")]


@pytest.mark.parametrize("outcome", ["unknown", "undelivered"])
def test_an_order_without_an_answer_is_unknown(outcome: str) -> None:
    run = Recorded()
    run.orders["more"] = ClientOutcome(order=order(order_id="more"), outcome=outcome)
    assert len(run.verify().unknown) == 1


def _rejected_but_executed(run: Recorded) -> None:
    run.orders[run.buy.order_id] = rejected(run.buy.order_id)


def _refused(run: Recorded) -> None:
    run.orders["more"] = ClientOutcome(order=order(order_id="more"), outcome="refused.order-id-reused")


def _number_left_out(run: Recorded) -> None:
    run.log[2] = entry(2, 3, [msgspec.structs.replace(run.sell, number=3)])


def _beyond_the_limit_price(run: Recorded) -> None:
    known = run.orders[run.buy.order_id]
    cheap = msgspec.structs.replace(known.order, limit_price=Decimal("100.00"))
    run.orders[run.buy.order_id] = msgspec.structs.replace(known, order=cheap)


def _other_price_than_quoted(run: Recorded) -> None:
    run.log[0] = entry(0, 1, quote_activated(ask_price=Decimal("100.20")))


def _after_the_quote_expired(run: Recorded) -> None:
    run.log[0] = entry(0, 1, quote_activated(expires_at=NOW))


def _on_a_withdrawn_quote(run: Recorded) -> None:
    quote = quote_activated()
    withdrawn = QuoteWithdrawn(
        symbol="AAA",
        quote_id=quote.quote_id,
        reservation_id=quote.reservation_id,
        position_version=0,
        attempt=1,
        withdrawn_at=NOW,
    )
    run.log = [run.log[0], entry(1, 2, withdrawn), entry(2, 3, [run.buy]), entry(3, 4, [run.sell])]


def _more_than_the_quote_had(run: Recorded) -> None:
    run.log[0] = entry(0, 1, quote_activated(ask_quantity=3))


def _an_older_quote_came_back(run: Recorded) -> None:
    run.log = [entry(0, 1, quote_activated(position_version=3)), entry(1, 2, quote_activated(position_version=2))]


def _wrong_position(run: Recorded) -> None:
    run.positions = [msgspec.structs.replace(run.positions[0], net_quantity=1)]


def _fill_not_applied(run: Recorded) -> None:
    run.positions = [msgspec.structs.replace(run.positions[0], position_version=1, net_quantity=-4)]


def _no_position(run: Recorded) -> None:
    run.positions = []


@pytest.mark.parametrize(
    "doctor",
    [
        _rejected_but_executed,
        _refused,
        _number_left_out,
        _beyond_the_limit_price,
        _other_price_than_quoted,
        _after_the_quote_expired,
        _on_a_withdrawn_quote,
        _more_than_the_quote_had,
        _an_older_quote_came_back,
        _wrong_position,
        _fill_not_applied,
        _no_position,
    ],
)
def test_a_doctored_run_is_refuted(doctor: Callable[[Recorded], None]) -> None:
    run = Recorded()
    doctor(run)
    assert run.verify().refuted


def test_the_lots_of_all_active_quotes_count_together() -> None:
    log = [
        entry(0, 1, quote_activated("AAA", bid_quantity=60)),
        entry(1, 1, quote_activated("BBB", bid_quantity=50), shard=1),
    ]
    assert most_shown(log) == 110
    assert verify({}, log, [], limit=LIMIT).refuted


def test_lots_that_expired_were_filled_or_replaced_no_longer_count() -> None:
    log = [
        entry(0, 1, quote_activated("AAA", bid_quantity=60, lifetime=1)),
        entry(2, 1, quote_activated("BBB", bid_quantity=50), shard=1),
        entry(3, 2, [recorded_fill("BBB", remaining_bid_quantity=20, remaining_ask_quantity=9)], shard=1),
        entry(4, 2, quote_activated("AAA", bid_quantity=70, activated_at=NOW + timedelta(seconds=4), attempt=2)),
        entry(5, 3, quote_activated("AAA", bid_quantity=80, activated_at=NOW + timedelta(seconds=5), attempt=3)),
    ]
    assert most_shown(log) == 100
