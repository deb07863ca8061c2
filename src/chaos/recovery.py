"""Measures how long recovery took after each fault. Pure: times are arguments, in seconds on one monotonic clock.

Two things recover: the *process*, when its own health reports ready, and *trading*, when an order is filled that was
first sent after the fault's end. Both count from the fault's end, which for a kill or a restart is the signal. A
recovery is *clear* if no other process was failing or recovering meanwhile; the others say little about their own
faults, so the two are kept apart.
"""

from statistics import median

import msgspec

from chaos.schedule import Fault


class Recovery(msgspec.Struct, kw_only=True):
    """One fault and the recovery from it.

    Attributes:
        fault: the fault.
        began: when it began.
        ended: when it ended; None while it is active.
        gone: since when the process from before is gone, so that a response comes from the new one; None until then.
        ready_after: seconds from the fault's end until the process was ready; None until then.
        ready_clear: no other process was failing or recovering meanwhile.
        trading_after: seconds from the fault's end until an order was filled; None until then.
        trading_clear: likewise for that time.
    """

    fault: Fault
    began: float
    ended: float | None = None
    gone: float | None = None
    ready_after: float | None = None
    ready_clear: bool = True
    trading_after: float | None = None
    trading_clear: bool = True


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of several recoveries.

    Attributes:
        count: how many there are.
        median: of the clear ones; None without any.
        worst: of the clear ones; None without any.
        worst_disturbed: of all; None without any.
    """

    count: int
    median: float | None
    worst: float | None
    worst_disturbed: float | None


class Recoveries:
    """The recoveries from all faults of a run.

    Attributes:
        all: in the order in which the faults began.
    """

    def __init__(self) -> None:
        self.all: list[Recovery] = []

    def begin(self, fault: Fault, now: float) -> Recovery:
        """Record the beginning of a fault."""
        begun = Recovery(fault=fault, began=now)
        self.all.append(begun)
        return begun

    def end(self, recovery: Recovery, now: float, gone: float | None = None) -> None:
        """Record the end of a fault. The process from before is gone since `gone`, or else since the end."""
        recovery.ended = now
        recovery.gone = now if gone is None else gone

    def ready(self, target: str, asked: float, now: float) -> None:
        """Record that a process was ready by a response to a request sent at `asked`."""
        for recovery in self.all:
            if recovery.fault.target != target or recovery.ready_after is not None:
                continue
            if recovery.ended is not None and recovery.gone is not None and asked >= recovery.gone:
                recovery.ready_after = now - recovery.ended
                recovery.ready_clear = self._clear(recovery, now)

    def filled(self, sent: float, now: float) -> None:
        """Record that an order first sent at `sent` was filled."""
        for recovery in self.all:
            if recovery.trading_after is None and recovery.ended is not None and sent >= recovery.ended:
                recovery.trading_after = now - recovery.ended
                recovery.trading_clear = self._clear(recovery, now)

    def _clear(self, recovery: Recovery, now: float) -> bool:
        """True if no other process was failing or recovering from the fault's beginning until now."""
        return all(
            other.ended is not None
            and other.ready_after is not None
            and other.ended + other.ready_after <= recovery.began
            for other in self.all
            if other is not recovery and other.began <= now
        )

    @property
    def trading_awaited(self) -> bool:
        """True if no order has been filled since the end of some fault."""
        return any(recovery.ended is not None and recovery.trading_after is None for recovery in self.all)


def figures(recoveries: list[tuple[float, bool]]) -> Figures:
    """Return the figures of several recoveries, given as (seconds, clear)."""
    clear = [seconds for seconds, is_clear in recoveries if is_clear]
    return Figures(
        count=len(recoveries),
        median=round(median(clear), 2) if clear else None,
        worst=round(max(clear), 2) if clear else None,
        worst_disturbed=round(max(seconds for seconds, _ in recoveries), 2) if recoveries else None,
    )
