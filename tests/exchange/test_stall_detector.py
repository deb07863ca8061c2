"""Noticing that the process was paused."""

from exchange.stall_detector import STALL, StallDetector


class Seconds:
    """A clock turned by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_process_that_ticks_does_not_stand_still() -> None:
    clock = Seconds()
    stall_detector = StallDetector(clock)
    for _ in range(50):
        clock.now += STALL / 2
        assert not stall_detector.stalled
        assert not stall_detector.tick()


def test_what_is_read_before_the_first_tick_after_a_stall_may_be_old() -> None:
    clock = Seconds()
    stall_detector = StallDetector(clock)
    clock.now += STALL + 0.1
    assert stall_detector.stalled


def test_what_is_read_may_be_old_until_all_is_read_that_waited() -> None:
    clock = Seconds()
    stall_detector = StallDetector(clock)
    clock.now += 10
    assert stall_detector.tick()
    assert not stall_detector.tick()
    assert stall_detector.stalled
    stall_detector.caught_up()
    assert not stall_detector.stalled


def test_a_second_stall_is_noticed_while_the_first_is_not_over() -> None:
    clock = Seconds()
    stall_detector = StallDetector(clock)
    clock.now += 10
    assert stall_detector.tick()
    clock.now += 10
    assert stall_detector.tick()
