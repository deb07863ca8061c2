"""Damage to stores: its place, and which lines of output count as reports of it."""

from pathlib import Path

import pytest

from chaos import store_damage
from chaos.schedule import DAMAGES, schedule
from jet.stream_integrity import REPAIR_HINT


@pytest.mark.parametrize(
    ("amount", "expected"), [(0.0, (0, 0)), (0.29, (0, 2)), (0.3, (1, 0)), (0.5, (1, 2)), (0.99, (2, 1))]
)
def test_every_byte_of_all_files_may_be_damaged(amount: float, expected: tuple[int, int]) -> None:
    assert store_damage.locate([3, 5, 2], amount) == expected


def test_one_bit_is_flipped_or_the_file_is_truncated(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for way, left in (("flip", 100), ("cut", 70)):
        file = tmp_path / way
        file.write_bytes(bytes(100))
        assert "70" in store_damage.damage_file([tmp_path / "none", tmp_path / "empty", file], way, 0.7)
        found = file.read_bytes()
        assert len(found) == left
        assert sum(byte.bit_count() for byte in found) == (way == "flip")
    assert store_damage.damage_file([tmp_path / "empty"], "flip", 0.7) == ""


def test_ledgers_are_damaged_but_servers_only_in_a_cluster() -> None:
    single = schedule(1, 600, ["nats", "ledger", "ledger-2", "exchange"], ["damage"])
    assert {fault.target for fault in single} == {"ledger", "ledger-2"}
    assert {fault.way for fault in single} == set(DAMAGES)
    assert schedule(1, 600, ["nats", "exchange"], ["damage", "attacker"]) == []
    servers = ["nats-1", "nats-2", "nats-3"]
    assert {fault.target for fault in schedule(1, 600, servers, ["damage"], ["MARKET-0"])} == set(servers)


def test_only_a_line_that_names_a_remedy_counts_as_a_report() -> None:
    assert store_damage._with_remedy(["ledger: store: it is damaged: `./qs repair`, while"]) is not None
    assert store_damage._with_remedy([f"nats-2: MARKET-0 lacks a message here; {REPAIR_HINT}"]) is not None
    assert store_damage._with_remedy(["ledger: it does not answer", ""]) is None
