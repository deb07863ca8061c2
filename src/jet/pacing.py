"""How long a projection rests between two rounds of writing its changes. Pure."""

MIN_PAUSE = 0.1
"""The shortest pause in seconds: a key that changes several times in it is written once."""

MAX_PAUSE = 1.0
"""The longest pause in seconds: a round that takes longer has only waited for a broker that was away."""


def pause_after(took: float) -> float:
    """Return how many seconds to rest after a round that took `took` seconds.

    The pause is as long as the round, so that projections leave half of a busy machine to decisions.
    """
    return min(max(MIN_PAUSE, took), MAX_PAUSE)
