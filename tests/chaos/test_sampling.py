"""Checking the limit."""

from chaos.sampling import Samples
from wire.reservations import Exposure, SideUsage


def exposure(bid: int, ask: int) -> Exposure:
    sides = [SideUsage(used=used, free=max(0, 100 - used)) for used in (bid, ask)]
    return Exposure(limit=100, bid=sides[0], ask=sides[1], reservations=[])


def test_the_largest_usage_is_kept() -> None:
    samples = Samples()
    for used in (10, 100, 50):
        samples.exposure(exposure(used, 0), 100, "here")
    assert (samples.taken, samples.most, samples.exceeded) == (3, 100, [])


def test_usage_over_the_limit_is_reported() -> None:
    samples = Samples()
    samples.exposure(exposure(0, 101), 100, "here")
    assert samples.exceeded == ["exposure at here: 0 lots bid, 101 lots ask, over the limit of 100"]
