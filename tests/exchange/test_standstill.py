"""Noticing that the process was paused."""

from exchange.standstill import STANDSTILL, Standstill


class Seconds:
    """A clock turned by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_process_that_ticks_does_not_stand_still() -> None:
    clock = Seconds()
    standstill = Standstill(clock)
    for _ in range(50):
        clock.now += STANDSTILL / 2
        assert not standstill.just_was
        assert not standstill.tick()


def test_what_is_read_before_the_first_tick_after_a_standstill_may_be_old() -> None:
    clock = Seconds()
    standstill = Standstill(clock)
    clock.now += STANDSTILL + 0.1
    assert standstill.just_was


def test_what_is_read_may_be_old_until_all_is_read_that_waited() -> None:
    clock = Seconds()
    standstill = Standstill(clock)
    clock.now += 10
    assert standstill.tick()
    assert not standstill.tick()
    assert standstill.just_was
    standstill.over()
    assert not standstill.just_was


def test_a_second_standstill_is_noticed_while_the_first_is_not_over() -> None:
    clock = Seconds()
    standstill = Standstill(clock)
    clock.now += 10
    assert standstill.tick()
    clock.now += 10
    assert standstill.tick()
