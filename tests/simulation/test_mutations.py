"""Each sabotage that the simulation must find can be applied to the present code."""

import shutil
from pathlib import Path

import pytest

from simulation.mutations import MUTATIONS, SOURCE, Mutation, apply


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_can_be_applied(mutation: Mutation, tmp_path: Path) -> None:
    """If the code changes, the mutations that quote it must change, too."""
    files = {mutation.file, *(file for file, _, _ in mutation.more)}
    for file in files:
        target = tmp_path / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SOURCE / file, target)
    apply(mutation, tmp_path)
    for file in files:
        compile((tmp_path / file).read_text(), file, "exec")


def test_the_names_of_mutations_differ() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
