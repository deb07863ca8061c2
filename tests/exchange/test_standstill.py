"""Noticing that the process stood still."""

from exchange.standstill import AFTERWARDS, STANDSTILL, Standstill


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
        standstill.tick()


def test_what_is_read_before_the_first_tick_after_a_standstill_may_be_old() -> None:
    clock = Seconds()
    standstill = Standstill(clock)
    clock.now += STANDSTILL + 0.1
    assert standstill.just_was


def test_what_is_read_shortly_after_it_may_be_old_and_later_not() -> None:
    clock = Seconds()
    standstill = Standstill(clock)
    clock.now += 10
    standstill.tick()
    assert standstill.just_was
    clock.now += AFTERWARDS / 2
    standstill.tick()
    assert standstill.just_was
    clock.now += AFTERWARDS
    standstill.tick()
    assert not standstill.just_was
