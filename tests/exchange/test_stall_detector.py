"""The detection of pauses of the process."""

from exchange.stall_detector import STALL, StallDetector


class Seconds:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_process_that_ticks_has_not_stalled() -> None:
    clock = Seconds()
    stall_detector = StallDetector(clock)
    for _ in range(50):
        clock.now += STALL / 2
        assert not stall_detector.stalled
        assert not stall_detector.tick()


def test_requests_read_before_the_first_tick_after_a_stall_may_be_old() -> None:
    clock = Seconds()
    stall_detector = StallDetector(clock)
    clock.now += STALL + 0.1
    assert stall_detector.stalled


def test_requests_may_be_old_until_everything_that_waited_is_read() -> None:
    clock = Seconds()
    stall_detector = StallDetector(clock)
    clock.now += 10
    assert stall_detector.tick()
    assert not stall_detector.tick()
    assert stall_detector.stalled
    stall_detector.caught_up()
    assert not stall_detector.stalled


def test_a_second_stall_is_noticed_before_the_first_has_ended() -> None:
    clock = Seconds()
    stall_detector = StallDetector(clock)
    clock.now += 10
    assert stall_detector.tick()
    clock.now += 10
    assert stall_detector.tick()
