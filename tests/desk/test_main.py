"""The command lines."""

import math
from datetime import timedelta
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from desk.__main__ import CANNOT, DIFFERS, MAX_HOURS, SAME, main
from desk.estimates import Result
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
def test_an_exported_file_reconciles(data: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(data / name)
    assert main(["export", file]) == SAME
    assert main(["reconcile", file]) == SAME
    assert capsys.readouterr().out == f"3 fills written to {file}\nall fills are the same\n"


def test_differences_are_printed_and_the_exit_code_is_1(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_fills_are_selected_by_symbol_and_time_on_both_sides(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
def test_an_error_is_printed_and_the_exit_code_is_2(
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


# --- backtest ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def market(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QS_MARKET_FILE", str(ROOT / "market.toml"))
    return tmp_path


def test_a_backtest_prints_each_symbol_and_writes_the_same_figures_to_files(
    market: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--json", str(market / "figures.json"), "--svg", str(market / "plot.svg")]
    assert main(["backtest", "--hours", "0.05", "--paths", "5", *files]) == SAME
    out = capsys.readouterr().out
    written = msgspec.json.decode((market / "figures.json").read_bytes())
    assert (written["hours"], written["paths"], written["seed"]) == (0.05, 5, 1)
    results = msgspec.convert(written["symbols"], list[Result])
    assert [result.symbol for result in results] == [
        "AAPL", "MSFT", "NVDA", "AMZN", "TSLA", "BTC-USD", "ETH-USD", "EURUSD",
    ]  # fmt: skip
    plot = ElementTree.fromstring((market / "plot.svg").read_text())  # noqa: S314 # our own
    labels = {element.text for element in plot.iter("{http://www.w3.org/2000/svg}text")}
    for result in results:
        assert f"\n{result.symbol} " in out
        assert result.symbol in labels
        assert f"{result.makers[0].captured.mean:,.6f}"[:3] in out
        assert [one.other for one in result.differences] == [figures.maker for figures in result.makers[1:]]


def test_a_backtest_of_one_symbol_is_reproducible(market: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def printed(*options: str) -> str:
        assert main(["backtest", "--symbol", "NVDA", "--hours", "0.1", "--paths", "5", *options]) == SAME
        return capsys.readouterr().out

    assert printed() == printed("--seed", "1")
    assert printed() != printed("--seed", "2")
    assert "NVDA" in printed()
    assert "AAPL" not in printed()


def test_a_path_without_a_fill_is_shown_too(market: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--hours", "1e-7", "--paths", "5", "--svg", str(market / "plot.svg")]
    assert main(["backtest", *options]) == SAME
    assert "0 ± 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--hours", value) for value in ("0", "-1", "nan", "inf", "x", str(math.nextafter(MAX_HOURS, math.inf)))),
        *(("--paths", value) for value in ("0", "-1", "4", "5.5", "x", "100001")),
        *(("--seed", value) for value in ("x", "1.5")),
        ("--symbol", "ZZZ"),
        ("--json", "."),
        ("--svg", "missing/plot.svg"),
        ("--frobnicate", "1"),
    ],
)
def test_a_backtest_with_a_bad_option_names_it_and_writes_nothing(
    market: Path, option: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(market)
    before = {"--json": "figures.json", "--svg": "plot.svg"}
    before.pop(option, None)
    files = [word for pair in before.items() for word in pair]
    assert main(["backtest", *files, option, value]) == CANNOT
    printed = capsys.readouterr()
    assert option in printed.out + printed.err
    assert not list(market.iterdir())
