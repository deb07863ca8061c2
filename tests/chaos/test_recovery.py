"""Measuring how long recovery takes."""

from chaos.recovery import Figures, Recoveries, figures
from chaos.schedule import Fault

KILL = Fault(at=0, kind="kill", target="exchange")
PAUSE = Fault(at=0, kind="pause", target="nats", seconds=5)


def test_a_process_has_recovered_when_it_reports_ready_after_the_fault() -> None:
    recoveries = Recoveries()
    killed = recoveries.begin(KILL, 10.0)
    recoveries.ready("exchange", asked=10.0, now=10.1)
    recoveries.end(killed, 10.2)
    recoveries.ready("ledger", asked=10.5, now=10.6)
    recoveries.ready("exchange", asked=10.1, now=10.7)
    assert killed.ready_after is None
    recoveries.ready("exchange", asked=11.2, now=11.5)
    recoveries.ready("exchange", asked=12.2, now=12.5)
    assert killed.ready_after is not None
    assert round(killed.ready_after, 3) == 1.3


def test_responses_of_the_old_process_do_not_count() -> None:
    recoveries = Recoveries()
    restarted = recoveries.begin(KILL, 10.0)
    recoveries.end(restarted, now=10.0, gone=12.0)
    recoveries.ready("exchange", asked=11.0, now=11.1)
    assert restarted.ready_after is None
    recoveries.ready("exchange", asked=12.5, now=13.0)
    assert restarted.ready_after == 3.0


def test_trading_has_recovered_when_an_order_sent_after_the_fault_is_filled() -> None:
    recoveries = Recoveries()
    killed = recoveries.begin(KILL, 10.0)
    assert not recoveries.trading_awaited
    recoveries.end(killed, 10.0)
    assert recoveries.trading_awaited
    recoveries.filled(sent=9.9, now=11.0)
    assert recoveries.trading_awaited
    recoveries.filled(sent=10.5, now=12.0)
    assert not recoveries.trading_awaited
    assert killed.trading_after == 2.0


def test_a_recovery_during_another_fault_is_not_clear() -> None:
    recoveries = Recoveries()
    killed = recoveries.begin(KILL, 10.0)
    recoveries.end(killed, 10.0)
    paused = recoveries.begin(PAUSE, 11.0)
    recoveries.ready("exchange", asked=12.0, now=12.0)
    recoveries.end(paused, 16.0)
    recoveries.ready("nats", asked=16.0, now=17.0)
    assert not killed.ready_clear
    assert not paused.ready_clear


def test_an_undisturbed_recovery_is_clear() -> None:
    recoveries = Recoveries()
    for start in (10.0, 20.0):
        killed = recoveries.begin(KILL, start)
        recoveries.end(killed, start)
        recoveries.ready("exchange", asked=start + 1, now=start + 1)
        recoveries.filled(sent=start + 1, now=start + 2)
    assert all(recovery.ready_clear and recovery.trading_clear for recovery in recoveries.all)


def test_a_recovery_during_another_recovery_is_not_clear() -> None:
    recoveries = Recoveries()
    recoveries.end(recoveries.begin(PAUSE, 10.0), 15.0)
    killed = recoveries.begin(KILL, 16.0)
    recoveries.end(killed, 16.0)
    recoveries.ready("nats", asked=16.5, now=16.5)
    recoveries.ready("exchange", asked=17.0, now=17.0)
    assert not killed.ready_clear


def test_figures_separate_clear_recoveries_from_others() -> None:
    assert figures([(1.0, True), (2.0, True), (6.0, True), (9.0, False)]) == Figures(
        count=4, median=2.0, worst=6.0, worst_disturbed=9.0
    )
    assert figures([]) == Figures(count=0, median=None, worst=None, worst_disturbed=None)
