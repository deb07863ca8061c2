"""How long it took to come back after each fault. Pure: times are arguments, seconds on one steady clock.

Two things come back: the *process*, when its own health says that it is ready, and *trading*, when an order first sent
after the fault's end is filled. Both count from the fault's end, which for a kill or a restart is the signal. A
recovery during which another process was at fault says little of the fault it belongs to, so it is told apart: it is
not *clear*.
"""

from statistics import median

import msgspec

from chaos.schedule import Fault


class Recovery(msgspec.Struct, kw_only=True):
    """One fault and what came after it.

    Attributes:
        fault: which fault.
        began: when it was begun.
        ended: when it ended; None while it is at work.
        gone: since when nothing that answers can be the process from before; None while it may be.
        ready_after: seconds from its end until its process was ready.
        ready_clear: no other process was at fault, or coming back from one, meanwhile.
        trading_after: seconds from its end until an order was filled.
        trading_clear: as `ready_clear`.
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
    """Seconds of several recoveries: of the clear ones the median and the worst, and the worst of all."""

    count: int
    median: float | None
    worst: float | None
    worst_disturbed: float | None


class Recoveries:
    """Every fault of a run.

    Attributes:
        all: in the order they began.
    """

    def __init__(self) -> None:
        self.all: list[Recovery] = []

    def begin(self, fault: Fault, now: float) -> Recovery:
        """A fault begins."""
        begun = Recovery(fault=fault, began=now)
        self.all.append(begun)
        return begun

    def end(self, recovery: Recovery, now: float, gone: float | None = None) -> None:
        """A fault ended; what was there before it is gone since `gone`, or since it ended."""
        recovery.ended = now
        recovery.gone = now if gone is None else gone

    def ready(self, target: str, asked: float, now: float) -> None:
        """A process, asked at `asked`, said that it is ready."""
        for recovery in self.all:
            if recovery.fault.target != target or recovery.ready_after is not None:
                continue
            if recovery.ended is not None and recovery.gone is not None and asked >= recovery.gone:
                recovery.ready_after = now - recovery.ended
                recovery.ready_clear = self._clear(recovery, now)

    def filled(self, sent: float, now: float) -> None:
        """An order first sent at `sent` was filled."""
        for recovery in self.all:
            if recovery.trading_after is None and recovery.ended is not None and sent >= recovery.ended:
                recovery.trading_after = now - recovery.ended
                recovery.trading_clear = self._clear(recovery, now)

    def _clear(self, recovery: Recovery, now: float) -> bool:
        """Whether, from the fault's beginning until now, no other process was at fault or coming back from one."""
        return all(
            other.ended is not None
            and other.ready_after is not None
            and other.ended + other.ready_after <= recovery.began
            for other in self.all
            if other is not recovery and other.began <= now
        )

    @property
    def trading_awaited(self) -> bool:
        """Whether a fault has ended after which no order was filled yet."""
        return any(recovery.ended is not None and recovery.trading_after is None for recovery in self.all)

    def at_work(self) -> set[str]:
        """The targets of faults that have not ended."""
        return {recovery.fault.target for recovery in self.all if recovery.ended is None}


def figures(recoveries: list[tuple[float, bool]]) -> Figures:
    """Sum up (seconds, clear) of several recoveries."""
    clear = [seconds for seconds, is_clear in recoveries if is_clear]
    return Figures(
        count=len(recoveries),
        median=round(median(clear), 2) if clear else None,
        worst=round(max(clear), 2) if clear else None,
        worst_disturbed=round(max(seconds for seconds, _ in recoveries), 2) if recoveries else None,
    )
