"""The sabotages that the simulation is to find can be applied to the code as it is."""

import shutil
from pathlib import Path

import pytest

from simulation.mutations import MUTATIONS, SOURCE, Mutation, apply


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_can_be_applied(mutation: Mutation, tmp_path: Path) -> None:
    target = tmp_path / mutation.file
    target.parent.mkdir(parents=True)
    shutil.copy(SOURCE / mutation.file, target)
    apply(mutation, tmp_path)
    compile(target.read_text(), mutation.file, "exec")


def test_there_are_enough_of_them() -> None:
    assert len(MUTATIONS) >= 40
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
