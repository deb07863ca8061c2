"""Exposure's core, driven by hand."""

import pytest

from support.exposure import Scene


@pytest.fixture
def scene() -> Scene:
    """Nothing is reserved yet."""
    return Scene()
