"""The sabotages that the simulation is to find can be applied to the code as it is."""

import shutil
from pathlib import Path

from simulation.mutations import MUTATIONS, SOURCE, Mutation, apply


def test_mutations_can_be_applied(tmp_path: Path) -> None:
    """Where the code has moved on, a few may wait for their new place: `./qs simulate --mutations` tells which."""
    applied = [mutation for mutation in MUTATIONS if _applies(mutation, tmp_path)]
    assert len(applied) >= 40


def _applies(mutation: Mutation, folder: Path) -> bool:
    files = {mutation.file, *(file for file, _, _ in mutation.more)}
    for file in files:
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SOURCE / file, target)
    try:
        apply(mutation, folder)
    except ValueError:
        return False
    for file in files:
        compile((folder / file).read_text(), file, "exec")
    return True


def test_their_names_differ() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
