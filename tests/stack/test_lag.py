"""The lag of a service, read from its metrics."""

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


def test_the_lag_of_a_follower_counts_messages_of_all_streams() -> None:
    assert lag_of(FOLLOWER) == Lag(7)
    assert str(Lag(7)) == "7"


def test_the_lag_of_a_ledger_includes_what_is_not_applied_or_published() -> None:
    """A shard of which it has applied nothing since its start is ignored until its first commit."""
    assert lag_of(LEDGER) == Lag(9, 2)
    assert str(Lag(9, 2)) == "9, 2 to publish"


def test_a_service_that_follows_nothing_has_no_lag() -> None:
    assert lag_of("# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 3.0\n") is None
