"""Files of fills: a written file can be read, and an invalid one is reported with line and field."""

from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from desk import fill_files
from desk.fill_files import COLUMNS, BadFile
from support.builders import numbered_fill as fill

HEADER = "fill_id,symbol,side,quantity,price,created_at"
LINE = "f1,AAA,buy,3,100.10,2026-01-05T09:30:00Z"


@pytest.mark.parametrize("name", ["fills.csv", "fills.parquet"])
def test_a_written_file_reads_back_the_same(tmp_path: Path, name: str) -> None:
    fills = [
        fill(number, price=Decimal(f"0.{'0' * number}1"), fee=Decimal("0.000000139074"), multiplier=Decimal("0.01"))
        for number in (1, 7, 20)
    ]
    assert fill_files.write(tmp_path / name, fills) == 3
    rows = [row for _, row in fill_files.read(tmp_path / name)]
    assert rows == [{name: getattr(one, name) for name in fill_files.COMPARED} for one in fills]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_parquet_file_has_prices_as_decimals_and_times_as_times(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    fill_files.write(tmp_path / "fills.parquet", [fill(1)])
    [row] = parquet.read_table(tmp_path / "fills.parquet").to_pylist()
    assert tuple(row) == COLUMNS
    assert (row["price"], row["fee"], row["multiplier"]) == (Decimal("100.10"), Decimal(0), Decimal(1))
    assert isinstance(row["created_at"], datetime)


def test_a_write_that_fails_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "fills.csv"
    path.write_text("before")

    def failing() -> object:
        yield fill(1)
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fill_files.write(path, failing())  # type: ignore[arg-type] # it is a generator
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{HEADER}\n{LINE}\n", ("buy", 3, Decimal("100.10"))),
        (f"\ufeff{HEADER}\r\n{LINE}\r\n\r\n", ("buy", 3, Decimal("100.10"))),
        (f'{HEADER},note\n{LINE},"free, text"\n', ("buy", 3, Decimal("100.10"))),
        (" price , side,quantity,symbol,fill_id\n 1.5E2 , SELL , 7 ,AAA,f1\n", ("sell", 7, Decimal(150))),
    ],
    ids=["plain", "as a spreadsheet writes it", "with a column of its own", "in another order"],
)
def test_files_of_others_are_read(tmp_path: Path, text: str, expected: tuple[str, int, Decimal]) -> None:
    path = tmp_path / "broker.csv"
    path.write_text(text, encoding="utf-8", newline="")
    [(_, row)] = fill_files.read(path)
    assert (row["side"], row["quantity"], row["price"]) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no column `symbol`"),
        ("fill_id,symbol,side,price\n", "no column `quantity`"),
        (f"{HEADER},price\n", "two columns `price`"),
        (f"{HEADER}\n{LINE}\n{LINE},more\n", "line 3: 7 values, but the header has 6"),
        (f"{HEADER}\n{LINE.replace('buy', 'short')}\n", "line 2: `side` is 'short'"),
        (f"{HEADER}\n{LINE.replace(',3,', ',-3,')}\n", "line 2: `quantity` is '-3'"),
        (f"{HEADER}\n{LINE.replace(',3,', ',3.5,')}\n", "line 2: `quantity` is '3.5'"),
        (f"{HEADER}\n{LINE.replace('100.10', 'NaN')}\n", "line 2: `price` is 'NaN'"),
        (f"{HEADER}\n{LINE.replace('100.10', '-1')}\n", "line 2: `price` is '-1'"),
        (f"{HEADER}\n{LINE.replace('100.10', '1,5')}\n", "line 2: 7 values"),
        (f"{HEADER}\n{LINE.replace('100.10', '1e999999999')}\n", "line 2: `price` is '1e999999999'"),
        (f"{HEADER},fee\n{LINE},-0.1\n", "line 2: `fee` is '-0.1'"),
        (f"{HEADER},fee\n{LINE},\n", "line 2: `fee` is ''"),
        (f"{HEADER}\n{LINE.replace('Z', '')}\n", "line 2: `created_at` is '2026-01-05T09:30:00'"),
        (f"{HEADER}\n{LINE.replace('f1', 'f 1')}\n", "line 2: `fill_id` is 'f 1'"),
        (f'{HEADER}\n"{LINE}\n', "is not a CSV file"),
    ],
)
def test_an_invalid_value_is_reported_with_its_line_and_field(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "broker.csv"
    path.write_text(text)
    with pytest.raises(BadFile, match=why):
        list(fill_files.read(path))


@pytest.mark.parametrize("name", ["broker.csv", "broker.parquet"])
def test_a_file_that_is_missing_or_of_another_format_is_reported(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(BadFile, match="No such file"):
        list(fill_files.read(path))
    path.write_bytes(b"\xff\xfe\x00PAR1")
    with pytest.raises(BadFile, match=r"is not a (CSV|Parquet) file"):
        list(fill_files.read(path))


def test_a_file_with_another_extension_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"ends in \.csv or \.parquet"):
        fill_files.write(tmp_path / "fills.xlsx", [])
    assert list(tmp_path.iterdir()) == []
