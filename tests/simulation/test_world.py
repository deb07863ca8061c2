"""Simulated processes."""

import gc

import pytest

from simulation.trace import Trace
from simulation.world import Clock, Process, World


async def _nothing() -> None:
    pass


def test_a_process_that_ends_before_its_tasks_have_begun_leaves_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    world = World(1, Trace())
    process = Process(world, "maker", Clock(world), 1)
    process.loop.create_task(_nothing())
    process.end()
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []
