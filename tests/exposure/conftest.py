"""Exposure's core, without a broker."""

import pytest

from support.exposure import Scene


@pytest.fixture
def scene() -> Scene:
    """A limit of which nothing is reserved."""
    return Scene()
