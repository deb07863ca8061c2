"""The kill switch: its table, and two makers on one log whose messages are lost, delayed and duplicated."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from maker.killswitch import TABLE, Held, Hold, KillSwitch, Log, SwitchState, Value, resumed

OFF, ON = Value(3, paused=False), Value(3, paused=True)


def timed_out_pause(before: Value | None, after: Value | None) -> KillSwitch:
    """Return a maker that knows `before`, receives a pause that is answered with 503, and then reads `after`."""
    one = KillSwitch()
    if before is not None:
        one.read(before)
    one.timed_out(one.pause())
    if after is not None:
        one.read(after)
    return one


def test_the_table_is_complete_and_only_its_landing_ends_an_awaited_hold() -> None:
    since = {Log.OFF_SINCE, Log.ON_SINCE}
    assert set(TABLE) == {(of, held) for of in Log for held in Held} - {(of, Held.NO) for of in since}
    for (_, held), (state, left) in TABLE.items():
        if held is Held.AWAITED:
            assert (state, left) == (SwitchState.HOLDING, Held.AWAITED)
        assert (state is SwitchState.HOLDING) == (left is not Held.NO)


@pytest.mark.parametrize(
    ("value", "state"),
    [
        (None, SwitchState.STARTING),
        (Value(0, paused=False), SwitchState.QUOTING),
        (OFF, SwitchState.QUOTING),
        (ON, SwitchState.PAUSED),
    ],
)
def test_without_a_hold_the_log_alone_counts(value: Value | None, state: SwitchState) -> None:
    one = KillSwitch()
    if value is not None:
        one.read(value)
    assert one.state is state


@pytest.mark.parametrize("value", [None, OFF, ON])
def test_a_pause_holds_at_once_and_until_it_is_in_the_log(value: Value | None) -> None:
    one = KillSwitch()
    if value is not None:
        one.read(value)
    hold = one.pause()
    assert one.state is SwitchState.HOLDING
    one.read(Value(4, paused=False))
    assert one.state is SwitchState.HOLDING
    one.pause_appended(hold, 5)
    assert (one.state, one.landed, one.value) == (SwitchState.PAUSED, 1, Value(5, paused=True))
    one.read(Value(6, paused=False))
    assert one.state is SwitchState.QUOTING


def test_a_late_acknowledgement_of_a_pause_does_not_undo_a_newer_resume() -> None:
    """A resume is read before the acknowledgement of the earlier pause arrives."""
    one = KillSwitch()
    hold = one.pause()
    one.read(Value(2, paused=False))
    one.pause_appended(hold, 1)
    assert one.state is SwitchState.QUOTING


@pytest.mark.parametrize(
    ("before", "after", "state"),
    [
        (None, None, SwitchState.HOLDING),
        (OFF, None, SwitchState.HOLDING),
        (OFF, OFF, SwitchState.HOLDING),
        (ON, ON, SwitchState.HOLDING),
        (OFF, Value(2, paused=False), SwitchState.HOLDING),
        (OFF, Value(4, paused=False), SwitchState.QUOTING),
        (ON, Value(4, paused=False), SwitchState.QUOTING),
        (OFF, Value(4, paused=True), SwitchState.PAUSED),
        (None, OFF, SwitchState.HOLDING),
    ],
)
def test_a_pause_that_answered_503_holds_until_a_newer_value_is_in_the_log(
    before: Value | None, after: Value | None, state: SwitchState
) -> None:
    one = timed_out_pause(before, after)
    assert one.state is state
    assert (one.hold is not None) == (state is SwitchState.HOLDING)


def test_a_resume_read_during_an_awaited_pause_ends_it_once_the_caller_has_timed_out() -> None:
    one = KillSwitch()
    one.read(ON)
    hold = one.pause()
    one.read(Value(4, paused=False))
    assert one.state is SwitchState.HOLDING
    one.timed_out(hold)
    assert one.state is SwitchState.QUOTING


def test_the_first_pauses_landing_does_not_complete_the_second() -> None:
    """A resume may lie between them."""
    one = KillSwitch()
    first, second = one.pause(), one.pause()
    one.pause_appended(first, 1)
    assert (one.state, one.landed) == (SwitchState.HOLDING, 1)
    one.pause_appended(second, 3)
    assert (one.state, one.landed) == (SwitchState.PAUSED, 2)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_pause_starts_an_episode_and_reading_it_again_does_not(count: int) -> None:
    one = KillSwitch()
    for sequence in range(1, count + 1):
        for _ in range(3):
            one.read(Value(sequence, paused=True))
    assert one.episode == count
    one.pause()
    assert one.episode == count + 1


# --- two makers -------------------------------------------------------------------------------------------------------


@dataclass
class Change:
    """A change that a maker is making: a pause that it holds, or a requested resume."""

    hold: Hold | None
    expected: int | None = None
    landed: int | None = None


@dataclass
class Asked:
    """A caller's request and its outcome. `begun` and `done` count steps; `done` is None until it is acknowledged."""

    paused: bool
    begun: int
    done: int | None = None


@dataclass
class Maker:
    seen: KillSwitch = field(default_factory=KillSwitch)
    change: Change | None = None
    asked: list[tuple[Hold | None, Asked]] = field(default_factory=list)


class TwoMakers(RuleBasedStateMachine):
    """Two makers as `maker.switch` runs them, on a log that appends any message whose comparison holds, however late.

    What must hold: the last pause or resume that was acknowledged stands for both makers in the end, unless one that
    was not over by then has come after it; a pause holds from the moment it is asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Value] = []
        self.makers = [Maker(), Maker()]
        self.in_flight: list[tuple[bool, int]] = []  # messages that nobody waits for any more, but that may still land
        self.outcomes: list[Asked] = []
        self.step = 0

    @property
    def newest(self) -> Value:
        return self.log[-1] if self.log else Value(0, paused=False)

    def land(self, expected: int, *, paused: bool) -> bool:
        if self.newest.sequence != expected:
            return False
        self.log.append(Value(expected + 1, paused=paused))
        return True

    def done(self, maker: Maker, hold: Hold | None) -> None:
        for of, asked in maker.asked:
            if asked.done is None and (of is hold if hold is None else of is not None and of.number <= hold.number):
                asked.done = self.step
        maker.asked = [(of, asked) for of, asked in maker.asked if asked.done is None]

    @rule(who=st.integers(0, 1))
    def ask_to_pause(self, who: int) -> None:
        self.step += 1
        maker = self.makers[who]
        asked = Asked(paused=True, begun=self.step)
        hold = maker.seen.pause()
        assert maker.seen.state is SwitchState.HOLDING
        maker.asked.append((hold, asked))
        self.outcomes.append(asked)

    @rule(who=st.integers(0, 1))
    def ask_to_resume(self, who: int) -> None:
        self.step += 1
        maker = self.makers[who]
        if maker.change is None:  # changes are made one at a time
            asked = Asked(paused=False, begun=self.step)
            maker.change = Change(None)
            maker.asked.append((None, asked))
            self.outcomes.append(asked)

    @rule(who=st.integers(0, 1), behind=st.integers(0, 2))
    def begin(self, who: int, behind: int) -> None:
        """The broker returns the newest value, or an old one."""
        maker = self.makers[who]
        if maker.change is None and maker.seen.hold is not None:
            maker.change = Change(maker.seen.hold)
        if maker.change is None or maker.change.expected is not None:
            return
        past = ([Value(0, paused=False), *self.log])[: len(self.log) + 1 - behind]
        if not past:
            return
        maker.seen.read(past[-1])
        if maker.change.hold is not None and maker.seen.hold is None:
            maker.change = None  # a resume has ended it
        else:
            maker.change.hold = maker.seen.hold if maker.change.hold is not None else None
            maker.change.expected = past[-1].sequence

    @rule(who=st.integers(0, 1))
    def arrive(self, who: int) -> None:
        """A copy of the message reaches the broker, but the reply does not arrive yet."""
        change = self.makers[who].change
        if change is None or change.expected is None or change.landed is not None:
            return
        if self.land(change.expected, paused=change.hold is not None):
            change.landed = self.newest.sequence

    @rule(who=st.integers(0, 1))
    def answer(self, who: int) -> None:
        """The maker learns the outcome of its append."""
        self.step += 1
        maker = self.makers[who]
        change = maker.change
        if change is None or change.expected is None:
            return
        if change.landed is None and self.newest.sequence == change.expected:
            return
        maker.change = None
        if change.hold is not None:
            if change.landed is not None:
                maker.seen.pause_appended(change.hold, change.landed)
                self.done(maker, change.hold)
            return  # else it tries again
        if change.landed is not None:
            maker.seen.read(Value(change.landed, paused=False))
            self.done(maker, None)
        else:
            maker.seen.read(self.newest)
            if resumed(self.newest):
                self.done(maker, None)
            else:
                maker.asked = [(of, asked) for of, asked in maker.asked if of is not None]

    @rule(who=st.integers(0, 1))
    def give_up(self, who: int) -> None:
        """Callers get 503. A resume is not retried, though its message may be in flight; a pause is."""
        maker = self.makers[who]
        change = maker.change
        if change is not None and change.hold is None:
            if change.expected is not None and change.landed is None:
                self.in_flight.append((False, change.expected))
            maker.change = None
        if maker.seen.hold is not None:
            maker.seen.timed_out(maker.seen.hold)
        maker.asked = []

    @precondition(lambda self: self.in_flight)
    @rule(which=st.integers(0, 10))
    def land_late(self, which: int) -> None:
        paused, expected = self.in_flight.pop(which % len(self.in_flight))
        self.land(expected, paused=paused)

    @precondition(lambda self: self.log)
    @rule(who=st.integers(0, 1), which=st.integers(0, 10))
    def deliver(self, who: int, which: int) -> None:
        """Deliver any message of the log, repeated or late. A bucket skips overwritten values."""
        self.makers[who].seen.read(self.log[-1 - which % len(self.log)])

    @rule(who=st.integers(0, 1))
    def crash(self, who: int) -> None:
        maker = self.makers[who]
        if maker.change is not None and maker.change.expected is not None and maker.change.landed is None:
            self.in_flight.append((maker.change.hold is not None, maker.change.expected))
        self.makers[who] = Maker()

    @invariant()
    def a_maker_with_an_unanswered_pause_does_not_quote(self) -> None:
        for maker in self.makers:
            if any(of is not None for of, _ in maker.asked):
                assert maker.seen.state.pauses

    def teardown(self) -> None:
        """Faults end: messages in flight land or are lost, changes complete, and all makers read the newest value."""
        for paused, expected in self.in_flight:
            self.land(expected, paused=paused)
        for _ in range(10):
            for who in (0, 1):
                self.begin(who, 0)
                self.arrive(who)
                self.answer(who)
        for maker in self.makers:
            maker.seen.read(self.newest)
            assert maker.seen.hold is None
            assert maker.seen.state.pauses == self.newest.paused
        acknowledged = [asked for asked in self.outcomes if asked.done is not None]
        if acknowledged:
            last = max(acknowledged, key=lambda asked: asked.begun)
            others = [asked for asked in self.outcomes if asked.paused != last.paused]
            if all(asked.done is not None and asked.done < last.begun for asked in others):
                assert self.newest.paused == last.paused


TestTwoMakers = TwoMakers.TestCase
TestTwoMakers.settings = settings(max_examples=200, stateful_step_count=40)
