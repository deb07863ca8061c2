"""How long a projection rests between two rounds of writing what has changed. Pure."""

LEAST = 0.1
"""Seconds, at least: whatever changes meanwhile is written once."""

MOST = 1.0
"""Seconds, at most: a round that waited for a broker that was away has not worked for so long."""


def pause_after(took: float) -> float:
    """Seconds to rest after a round that took so many: as long as it took, so that what a projection only shows leaves
    half of a busy machine to what is decided."""
    return min(max(LEAST, took), MOST)
