"""Damage: where it is done, and what of a system's word for it counts."""

from pathlib import Path

import pytest

from chaos import damaging
from chaos.schedule import HARMS, schedule
from jet.stream_integrity import REPAIR_HINT


@pytest.mark.parametrize(
    ("amount", "expected"), [(0.0, (0, 0)), (0.29, (0, 2)), (0.3, (1, 0)), (0.5, (1, 2)), (0.99, (2, 1))]
)
def test_every_byte_of_all_files_may_be_hit(amount: float, expected: tuple[int, int]) -> None:
    assert damaging.place([3, 5, 2], amount) == expected


def test_one_bit_is_flipped_or_the_rest_is_cut(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for way, left in (("flip", 100), ("cut", 70)):
        file = tmp_path / way
        file.write_bytes(bytes(100))
        assert "70" in damaging.harm([tmp_path / "none", tmp_path / "empty", file], way, 0.7)
        found = file.read_bytes()
        assert len(found) == left
        assert sum(byte.bit_count() for byte in found) == (way == "flip")
    assert damaging.harm([tmp_path / "empty"], "flip", 0.7) == ""


def test_ledgers_are_damaged_and_servers_only_of_a_cluster() -> None:
    alone = schedule(1, 600, ["nats", "ledger", "ledger-2", "exchange"], ["damage"])
    assert {fault.target for fault in alone} == {"ledger", "ledger-2"}
    assert {fault.way for fault in alone} == set(HARMS)
    assert schedule(1, 600, ["nats", "exchange"], ["damage", "attacker"]) == []
    servers = ["nats-1", "nats-2", "nats-3"]
    assert {fault.target for fault in schedule(1, 600, servers, ["damage"], ["MARKET-0"])} == set(servers)


def test_only_what_says_what_to_do_counts_as_told() -> None:
    assert damaging._remedied(["ledger: store: it is damaged: `./qs repair`, while"]) is not None
    assert damaging._remedied([f"nats-2: MARKET-0 lacks a message here; {REPAIR_HINT}"]) is not None
    assert damaging._remedied(["ledger: it does not answer", ""]) is None
