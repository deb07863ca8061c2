"""How far behind a service is, from its metrics."""

from stack.lag import Lag, lag_of

FOLLOWER = """
# HELP quotestream_consumer_lag_messages Messages of a stream that a follower has yet to be given.
# TYPE quotestream_consumer_lag_messages gauge
quotestream_consumer_lag_messages{stream="MARKET-0",tail="exchange"} 3.0
quotestream_consumer_lag_messages{stream="MARKET-1",tail="exchange"} 4.0
"""

LEDGER = (
    FOLLOWER
    + """
# TYPE ledger_received_sequence gauge
ledger_received_sequence{shard="0"} 12.0
ledger_received_sequence{shard="1"} 5.0
ledger_received_sequence{shard="2"} 9.0
# TYPE ledger_applied_sequence gauge
ledger_applied_sequence{shard="0"} 10.0
ledger_applied_sequence{shard="1"} 5.0
# TYPE ledger_positions_pending gauge
ledger_positions_pending 2.0
"""
)


def test_a_follower_is_behind_by_what_it_has_not_got_of_all_streams() -> None:
    assert lag_of(FOLLOWER) == Lag(7)
    assert str(Lag(7)) == "7"


def test_a_ledger_is_also_behind_by_what_it_has_not_applied_and_not_published() -> None:
    """What no sequence is applied of since it started says nothing: the first commit tells."""
    assert lag_of(LEDGER) == Lag(9, 2)
    assert str(Lag(9, 2)) == "9, 2 to publish"


def test_what_follows_nothing_is_not_behind() -> None:
    assert lag_of("# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 3.0\n") is None
