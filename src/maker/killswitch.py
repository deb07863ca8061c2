"""The kill switch as one maker sees it: what it does about it, and when a change of it has come about. Pure.

The theory. The log of the switch says how it stands for all makers: its newest value, by sequence. A maker that is told
to pause holds at once, before the log says so; the hold ends when its pause is in the log, and from then on the log
alone counts. What a maker does follows from these two facts, whatever came before and however often it is asked.

    newest value in the log                 no hold      hold, waited for     hold, its caller was told 503
    not read yet                            STARTING     HOLDING              HOLDING
    off                                     QUOTING      HOLDING              HOLDING
    on                                      PAUSED       HOLDING              HOLDING
    off, written since the hold began       -            HOLDING              QUOTING: a resume ended the hold
    on, written since the hold began        -            HOLDING              PAUSED: another's pause stands

Every change appends a message that compares the newest one, even if it says what stood before. So once a change is in
the log, no copy of an earlier one, however late, can come after it. A pause that loses the compare tries again. A
resume that loses it to a pause is beaten: that pause is newer than what it was to end.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum


class SwitchState(Enum):
    """What a maker does about the switch."""

    STARTING = "starting"
    """The switch was not read yet: nothing is quoted, and what stands is left."""
    QUOTING = "quoting"
    """The switch is off."""
    HOLDING = "holding"
    """A pause that this maker was told of is not known to be in the log: it pauses as if it were."""
    PAUSED = "paused"
    """The switch is on: nothing is quoted, and what makers quoted is withdrawn."""

    @property
    def pauses(self) -> bool:
        """Whether nothing is to be quoted, and what makers quoted is to be withdrawn."""
        return self in (SwitchState.HOLDING, SwitchState.PAUSED)


class Held(Enum):
    """A maker's own pause, while it is not known to be in the log."""

    NO = "none"
    AWAITED = "whoever asked for it waits for its answer"
    TIMED_OUT = "whoever asked for it was told that its outcome is not known"


class Log(Enum):
    """The newest value in the log, seen from a hold."""

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
"""What a maker does, and what becomes of its hold."""


@dataclass(frozen=True, slots=True)
class Value:
    """The switch as it was written at a sequence; 0 if it never was. `by`: by whom, as far as is known."""

    sequence: int
    paused: bool
    by: str = ""


@dataclass(frozen=True, slots=True)
class Hold:
    """A pause of this maker's that is not known to be in the log.

    Attributes:
        number: which of this maker's pauses, from 1.
        base: the newest sequence known when it was asked for; None if the switch was not read yet.
        held: whether somebody waits for it.
        by: whose wish it is, as far as is known.
    """

    number: int
    base: int | None
    held: Held = Held.AWAITED
    by: str = ""


class KillSwitch:
    """One maker's view.

    Attributes:
        value: the newest value known of the log; None before any.
        hold: the maker's own pause, while it is not known to be in the log.
        landed: the number of the newest of its pauses that is.
        episode: grows with every pause, here or in the log: what was quoted before is to be withdrawn once for each.
    """

    def __init__(self) -> None:
        self.value: Value | None = None
        self.hold: Hold | None = None
        self.landed = 0
        self.episode = 0
        self._asked = 0

    @property
    def by(self) -> str:
        """Whose wish the newest value known of the log was; empty if that is not known."""
        return self.value.by if self.value is not None else ""

    @property
    def state(self) -> SwitchState:
        """What the maker does now."""
        return self._look()[0]

    def read(self, value: Value) -> None:
        """The log has this value. One that is not newer than what is known changes nothing."""
        if self.value is not None and value.sequence <= self.value.sequence:
            return
        self.value = value
        if self.hold is not None and self.hold.base is None:
            self.hold = replace(self.hold, base=value.sequence)
        if value.paused:
            self.episode += 1
        self._settle()

    def doubt(self, by: str) -> None:
        """The log has lost what may have been its newest value: it counts as a pause until it is turned again."""
        self.value = Value(self.value.sequence if self.value else 0, paused=True, by=by)
        self.episode += 1
        self._settle()

    def pause(self, by: str = "") -> Hold:
        """This maker is told to pause, as `by` wishes: it holds from now on."""
        self._asked += 1
        self.episode += 1
        self.hold = Hold(self._asked, self.value.sequence if self.value else None, by=by)
        return self.hold

    def timed_out(self, hold: Hold) -> None:
        """Whoever asked for that pause waits no longer: from now on a resume that is newer than it ends it."""
        if self.hold is not None and self.hold.number == hold.number:
            self.hold = replace(self.hold, held=Held.TIMED_OUT)
            self._settle()

    def in_log(self, hold: Hold, sequence: int) -> None:
        """That pause is in the log: the log alone counts now, unless another pause was asked for meanwhile."""
        self.landed = max(self.landed, hold.number)
        if self.hold is not None and self.hold.number == hold.number:
            self.hold = None
        if self.value is None or sequence > self.value.sequence:
            self.value = Value(sequence, paused=True, by=hold.by)

    def _look(self) -> tuple[SwitchState, Held]:
        return TABLE[self._log(), self.hold.held if self.hold else Held.NO]

    def _log(self) -> Log:
        if self.value is None:
            return Log.UNREAD
        since = self.hold is not None and self.hold.base is not None and self.value.sequence > self.hold.base
        if self.value.paused:
            return Log.ON_SINCE if since else Log.ON
        return Log.OFF_SINCE if since else Log.OFF

    def _settle(self) -> None:
        if self._look()[1] is Held.NO:
            self.hold = None


def resumed(newest: Value) -> bool:
    """Whether a resume that lost its compare has come about all the same; else a newer pause has beaten it."""
    return not newest.paused
