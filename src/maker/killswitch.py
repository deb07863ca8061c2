"""The kill switch as one maker sees it: what the maker does, and when a change has taken effect. Pure.

The theory. The switch's log holds its state for all makers: the newest value, by sequence. A maker that receives a
pause stops quoting at once, before the pause is in the log: it *holds*. The hold ends when the pause is in the log, and
from then on the log alone counts. What a maker does depends on these two facts only, not on what happened before.

    newest value in the log                 no hold      hold, caller waits   hold, caller got 503
    not read yet                            STARTING     HOLDING              HOLDING
    off                                     QUOTING      HOLDING              HOLDING
    on                                      PAUSED       HOLDING              HOLDING
    off, written since the hold began       -            HOLDING              QUOTING: a resume ended the hold
    on, written since the hold began        -            HOLDING              PAUSED: another maker's pause is active

Every change is appended by comparison with the newest message, even if it repeats the current value. So once a change
is in the log, no delayed copy of an earlier one can be appended after it. A pause that loses the comparison is tried
again. A resume that loses it to a pause is refused: that pause is newer than the one it was meant to end.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum


class SwitchState(Enum):
    """What a maker does because of the switch."""

    STARTING = "starting"
    """The switch has not been read yet: nothing is quoted, and active quotes are left alone."""
    QUOTING = "quoting"
    """The switch is off."""
    HOLDING = "holding"
    """This maker has received a pause that is not known to be in the log: it pauses as if it were."""
    PAUSED = "paused"
    """The switch is on: nothing is quoted, and the makers' quotes are withdrawn."""

    @property
    def pauses(self) -> bool:
        """True if nothing may be quoted, and the makers' quotes must be withdrawn."""
        return self in (SwitchState.HOLDING, SwitchState.PAUSED)


class Held(Enum):
    """The state of a maker's own pause, while it is not known to be in the log."""

    NO = "none"
    AWAITED = "its caller waits for the response"
    TIMED_OUT = "its caller was told that the outcome is unknown"


class Log(Enum):
    """The newest value in the log, relative to a hold."""

    UNREAD = "not read yet"
    OFF = "off"
    ON = "on"
    OFF_SINCE = "off, written since the hold began"
    ON_SINCE = "on, written since the hold began"


TABLE: Mapping[tuple[Log, Held], tuple[SwitchState, Held]] = {
    (Log.UNREAD, Held.NO): (SwitchState.STARTING, Held.NO),
    (Log.OFF, Held.NO): (SwitchState.QUOTING, Held.NO),
    (Log.ON, Held.NO): (SwitchState.PAUSED, Held.NO),
    (Log.UNREAD, Held.AWAITED): (SwitchState.HOLDING, Held.AWAITED),
    (Log.OFF, Held.AWAITED): (SwitchState.HOLDING, Held.AWAITED),
    (Log.ON, Held.AWAITED): (SwitchState.HOLDING, Held.AWAITED),
    (Log.OFF_SINCE, Held.AWAITED): (SwitchState.HOLDING, Held.AWAITED),
    (Log.ON_SINCE, Held.AWAITED): (SwitchState.HOLDING, Held.AWAITED),
    (Log.UNREAD, Held.TIMED_OUT): (SwitchState.HOLDING, Held.TIMED_OUT),
    (Log.OFF, Held.TIMED_OUT): (SwitchState.HOLDING, Held.TIMED_OUT),
    (Log.ON, Held.TIMED_OUT): (SwitchState.HOLDING, Held.TIMED_OUT),
    (Log.OFF_SINCE, Held.TIMED_OUT): (SwitchState.QUOTING, Held.NO),
    (Log.ON_SINCE, Held.TIMED_OUT): (SwitchState.PAUSED, Held.NO),
}
"""What a maker does, and the new state of its hold."""


@dataclass(frozen=True, slots=True)
class Value:
    """The switch's value at a sequence; 0 if it was never written. `by`: who wrote it; empty if unknown."""

    sequence: int
    paused: bool
    by: str = ""


@dataclass(frozen=True, slots=True)
class Hold:
    """A pause of this maker that is not known to be in the log.

    Attributes:
        number: counts this maker's pauses, from 1.
        base: the newest sequence known when the pause was requested; None if the switch had not been read.
        held: whether its caller still waits.
        by: who requested it; empty if unknown.
    """

    number: int
    base: int | None
    held: Held = Held.AWAITED
    by: str = ""


class KillSwitch:
    """One maker's view of the switch.

    Attributes:
        value: the newest known value in the log; None before the first.
        hold: the maker's own pause, while it is not known to be in the log.
        landed: the number of the maker's newest pause that is in the log.
        episode: grows with every pause, here or in the log. Each requires one withdrawal of all earlier quotes.
    """

    def __init__(self) -> None:
        self.value: Value | None = None
        self.hold: Hold | None = None
        self.landed = 0
        self.episode = 0
        self._pauses = 0

    @property
    def by(self) -> str:
        """Who wrote the newest known value; empty if unknown."""
        return self.value.by if self.value is not None else ""

    @property
    def state(self) -> SwitchState:
        """What the maker does now."""
        return self._decide()[0]

    def read(self, value: Value) -> None:
        """Update the view with a value from the log. A value that is not newer than the known one is ignored."""
        if self.value is not None and value.sequence <= self.value.sequence:
            return
        self.value = value
        if self.hold is not None and self.hold.base is None:
            self.hold = replace(self.hold, base=value.sequence)
        if value.paused:
            self.episode += 1
        self._settle()

    def assume_paused(self, by: str) -> None:
        """Assume a pause until the next change, because the log may have lost its newest value."""
        self.value = Value(self.value.sequence if self.value else 0, paused=True, by=by)
        self.episode += 1
        self._settle()

    def pause(self, by: str = "") -> Hold:
        """Hold from now on: this maker has received a pause from `by`."""
        self._pauses += 1
        self.episode += 1
        self.hold = Hold(self._pauses, self.value.sequence if self.value else None, by=by)
        return self.hold

    def timed_out(self, hold: Hold) -> None:
        """Record that the caller of a pause no longer waits: from now on a newer resume ends the hold."""
        if self.hold is not None and self.hold.number == hold.number:
            self.hold = replace(self.hold, held=Held.TIMED_OUT)
            self._settle()

    def pause_appended(self, hold: Hold, sequence: int) -> None:
        """Record that a pause is in the log. Ends its hold, unless another pause was requested meanwhile."""
        self.landed = max(self.landed, hold.number)
        if self.hold is not None and self.hold.number == hold.number:
            self.hold = None
        if self.value is None or sequence > self.value.sequence:
            self.value = Value(sequence, paused=True, by=hold.by)

    def _decide(self) -> tuple[SwitchState, Held]:
        return TABLE[self._log(), self.hold.held if self.hold else Held.NO]

    def _log(self) -> Log:
        if self.value is None:
            return Log.UNREAD
        since = self.hold is not None and self.hold.base is not None and self.value.sequence > self.hold.base
        if self.value.paused:
            return Log.ON_SINCE if since else Log.ON
        return Log.OFF_SINCE if since else Log.OFF

    def _settle(self) -> None:
        if self._decide()[1] is Held.NO:
            self.hold = None


def resumed(newest: Value) -> bool:
    """True if makers have resumed although this resume lost its comparison; False if it lost to a pause."""
    return not newest.paused
