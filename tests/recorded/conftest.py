"""Scripts on the test's broker."""

from support.recorded import store

__all__ = ["store"]
