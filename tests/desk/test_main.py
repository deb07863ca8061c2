"""The commands, as people type them."""

from datetime import timedelta
from pathlib import Path

import pytest

from desk.__main__ import CANNOT, DIFFERS, SAME, main
from ledger.positions import Books, Delivery, fold
from ledger.store import Store
from support.builders import NOW, recorded_fill

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stack's data folder, whose ledger has two fills of AAA, a day apart, and one of BBB."""
    folder = tmp_path / "data"
    aaa = [recorded_fill(number=1), recorded_fill(number=2, created_at=NOW + timedelta(days=1))]
    deliveries = [Delivery(0, 1, "BBB", b"", [recorded_fill("BBB")]), Delivery(1, 1, "AAA", b"", aaa)]
    async with Store(folder / "ledger.sqlite") as store:
        await store.commit(fold(Books(), {}, deliveries), NOW)
    monkeypatch.setenv("QS_STACK_DATA_DIR", str(folder))
    monkeypatch.setenv("QS_MARKET_FILE", str(ROOT / "market.toml"))
    return tmp_path


@pytest.mark.parametrize("name", ["fills.csv", "fills.parquet"])
def test_what_was_exported_is_the_same(data: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(data / name)
    assert main(["export", file]) == SAME
    assert main(["reconcile", file]) == SAME
    assert capsys.readouterr().out == f"3 fills written to {file}\nall fills are the same\n"


def test_what_differs_is_printed_and_is_exit_code_1(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = data / "broker.csv"
    file.write_text("fill_id,symbol,side,quantity,price\nAAA-f1,AAA,sell,1,100.10\nx,BBB,buy,1,5\n")
    assert main(["reconcile", str(file)]) == DIFFERS
    assert capsys.readouterr().out.splitlines() == [
        "different  AAA  AAA-f1  (line 2, side is buy in the ledger, sell in the file)",
        "extra      AAA  AAA-f2",
        "extra      BBB  BBB-f1",
        "missing    BBB  x  (line 3)",
        "1 different, 2 extra, 1 missing",
    ]


def test_fills_are_chosen_by_symbol_and_time_on_both_sides(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, part = str(data / "whole.csv"), str(data / "part.csv")
    chosen = ["--symbol", "AAA", "--since", (NOW + timedelta(hours=1)).isoformat()]
    assert main(["export", whole]) == SAME
    assert main(["export", part, *chosen]) == SAME
    assert "1 fills written" in capsys.readouterr().out
    assert main(["reconcile", whole, *chosen]) == SAME
    assert main(["reconcile", part, *chosen]) == SAME
    assert main(["reconcile", part]) == DIFFERS


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["export", "fills.txt"], "ends in .csv or .parquet"),
        (["export", "nowhere/fills.csv"], "No such file or directory"),
        (["export", "fills.csv", "--database", "none.sqlite"], "there is no ledger database at none.sqlite"),
        (["reconcile", "none.csv"], "none.csv: No such file"),
        (["reconcile"], ""),
        (["export", "fills.csv", "--since", "yesterday"], ""),
    ],
)
def test_what_cannot_be_done_is_told_and_is_exit_code_2(
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    why: str,
) -> None:
    monkeypatch.chdir(data)
    before = sorted(data.iterdir())
    assert main(arguments) == CANNOT
    assert why in capsys.readouterr().err
    assert sorted(data.iterdir()) == before
