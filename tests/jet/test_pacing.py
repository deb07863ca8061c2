"""How long a projection rests."""

import pytest

from jet.pacing import pause_after


@pytest.mark.parametrize(("took", "rests"), [(0.0, 0.1), (0.1, 0.1), (0.4, 0.4), (1.0, 1.0), (60.0, 1.0)])
def test_a_projection_rests_as_long_as_it_worked_within_bounds(took: float, rests: float) -> None:
    assert pause_after(took) == rests
