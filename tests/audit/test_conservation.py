"""The sums over a log."""

from audit.conservation import Tally
from support.audit import Script, busy


def test_lots_are_conserved_and_every_quote_has_an_outcome() -> None:
    script = busy()
    tally = Tally()
    replay = script.replay(tally)
    replay.now = script.end
    totals = tally.totals(replay)
    assert (totals.symbols, totals.fills, totals.reported) == (2, 9, 1)
    assert (totals.bought_lots, totals.sold_lots) == (28, 22)
    assert totals.net_quantity == sum(totals.positions.values()) == -6
    assert totals.quotes == {"active": 2, "expired": 1, "filled away": 1, "replaced": 2, "withdrawn": 1}


def test_the_last_quotes_count_by_their_state_at_the_end() -> None:
    script = Script()
    script.quote("AAA")
    script.trade("AAA", "buy", 10)
    script.trade("AAA", "sell", 10)
    script.quote("XXX")
    script.wait(60)
    tally = Tally()
    replay = script.replay(tally)
    replay.now = script.end
    assert tally.totals(replay).quotes == {"expired": 1, "filled away": 1}
