"""Changed settings: a message is refuted only by the settings in force when it was stored."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import msgspec
import pytest

from audit.check import Check
from audit.epochs import ALWAYS, PerEpoch, in_force
from audit.findings import Status, Verdict
from audit.limit import WithinLimit
from audit.proposals import SameProposal
from process.settings import Market
from recorded.proposer import Proposer
from recorded.revisions import Revisions
from stack.record import Epoch
from support.audit import LIMIT, SYMBOLS, Script, text_of
from support.builders import market
from wire.ids import QuoteVersion

MARKET = market(symbols=SYMBOLS, limit=LIMIT, quote_ttl=30.0, grace=2.0)


def small(limit: int) -> Market:
    """The market with another limit."""
    return msgspec.structs.replace(MARKET, limit=limit)


def priced(reference: str) -> Market:
    """The market with AAA around another price."""
    other = msgspec.structs.replace(SYMBOLS["AAA"], reference_price=Decimal(reference))
    return msgspec.structs.replace(MARKET, symbols={**SYMBOLS, "AAA": other})


def limit(script: Script, recorded: Sequence[Epoch], current: Market) -> Verdict:
    """The verdict on I2."""

    def make(of: Market) -> Check:
        return WithinLimit(of.limit, timedelta(seconds=of.grace), Revisions())

    return script.verdict(PerEpoch(in_force(recorded, current), make, remembers=True))


def proposals(script: Script, recorded: Sequence[Epoch], current: Market) -> Verdict:
    """The verdict on I12."""

    def make(of: Market) -> Check:
        return SameProposal(Proposer(of.listings, Revisions()))

    return script.verdict(PerEpoch(in_force(recorded, current), make, remembers=False))


def changed(*parts: Callable[[Script], None]) -> tuple[Script, list[datetime]]:
    """A log of parts, and the time before each, with a minute before and after it."""
    script = Script()
    began = []
    for part in parts:
        began.append(script.now)
        script.wait(60)
        part(script)
        script.wait(60)
    return script, began


def show(lots: int) -> Callable[[Script], None]:
    """Show a quote for `lots` on each side."""

    def shown(script: Script) -> None:
        script.quote(bid_quantity=lots, ask_quantity=lots)
        script.withdraw()

    return shown


def test_a_lowered_limit_refutes_only_later_quotes() -> None:
    script, (_, lowered) = changed(show(100), show(50))
    recorded = [Epoch(since=ALWAYS, market=small(100)), Epoch(since=lowered, market=small(50))]
    verdict = limit(script, recorded, small(50))
    assert verdict.status is Status.PROVED, text_of(verdict)
    script, (_, lowered) = changed(show(100), show(51))
    recorded[1] = Epoch(since=lowered, market=small(50))
    assert limit(script, recorded, small(50)).contradictions == 1
    script, (_, lowered) = changed(show(101), show(50))
    recorded[1] = Epoch(since=lowered, market=small(50))
    assert limit(script, recorded, small(50)).contradictions == 1


def test_a_grant_from_before_a_change_may_live_to_its_end() -> None:
    for after, status in ((31.0, Status.NOT_CHECKABLE), (33.0, Status.REFUTED)):
        script = Script()
        lowered = script.now + timedelta(seconds=1)
        script.wait(1 + after)
        script.quote(bid_quantity=100, ask_quantity=100)
        recorded = [Epoch(since=ALWAYS, market=small(100)), Epoch(since=lowered, market=small(50))]
        assert limit(script, recorded, small(50)).status is status


@pytest.mark.parametrize("recorded", [[], [Epoch(since=Script().now + timedelta(hours=1), market=small(50))]])
def test_without_a_record_of_that_time_it_is_not_checkable_with_a_reason(recorded: list[Epoch]) -> None:
    script, _ = changed(show(100))
    verdict = limit(script, recorded, small(50))
    assert verdict.status is Status.NOT_CHECKABLE
    assert any("1 messages would contradict the settings" in remark for remark in verdict.remarks)
    assert limit(script, recorded, small(100)).status is (Status.NOT_CHECKABLE if recorded else Status.PROVED)


def test_settings_of_another_version_refute_nothing() -> None:
    script, (_, unknown) = changed(show(100), show(100))
    recorded = [Epoch(since=ALWAYS, market=small(100)), Epoch(since=unknown, market=None)]
    assert limit(script, recorded, small(50)).status is Status.NOT_CHECKABLE


def test_a_price_that_was_changed_and_changed_back_refutes_nothing() -> None:
    def quote_at(reference: str) -> Callable[[Script], None]:
        proposer = Proposer(priced(reference).listings, Revisions())

        def quoted(script: Script) -> None:
            latest = script.latest.get("AAA")
            proposal = proposer.propose("AAA", QuoteVersion(0, 0, latest.attempt + 1 if latest else 1), 0)
            assert proposal is not None
            script.quote(bid_price=proposal.quote.bid_price, ask_price=proposal.quote.ask_price)

        return quoted

    script, began = changed(quote_at("100.00"), quote_at("130.00"), quote_at("100.00"))
    markets = [priced("100.00"), priced("130.00"), priced("100.00")]
    since = [ALWAYS, *began[1:]]
    recorded = [Epoch(since=at, market=of) for at, of in zip(since, markets, strict=True)]
    verdict = proposals(script, recorded, markets[-1])
    assert verdict.status is Status.PROVED, (text_of(verdict), verdict.remarks)
    assert proposals(script, [], markets[-1]).status is Status.NOT_CHECKABLE
    assert proposals(script, recorded[:1], markets[-1]).status is Status.REFUTED


def test_only_the_newest_epochs_are_checked() -> None:
    script = Script()
    recorded = [Epoch(since=script.now + timedelta(hours=n), market=small(n + 1)) for n in range(100)]
    epochs = in_force(recorded, small(100))
    assert len(epochs) <= 17
    assert (epochs[0].since, epochs[-1].market.limit) == (ALWAYS, 100)
    for before, after in pairwise(epochs):
        assert before.until == after.since
