"""Fills as a file: CSV, or Parquet if its name ends so.

A file has a column for each field of a fill, in UTF-8, times in UTC, prices exact. Columns may come in any order.
"""

import csv
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import msgspec

from wire.orders import Fill, NumberedFill
from wire.units import MONEY_PLACES, MULTIPLIER_PLACES, FieldError, check_fee, check_price

COLUMNS = (
    "symbol",
    "number",
    "fill_id",
    "order_id",
    "side",
    "quantity",
    "price",
    "quote_id",
    "created_at",
    "origin",
    "multiplier",
    "fee",
)
"""What is written."""

NEEDED = ("symbol", "fill_id", "side", "quantity", "price")
"""What a file of somebody else's must have."""

COMPARED = (*NEEDED, "order_id", "quote_id", "created_at", "fee")
"""What of such a file is compared, as far as it has it."""

PARQUET = ".parquet"
_ROWS = 50_000
"""Rows of a Parquet file that are written at a time."""

_KINDS = {field.name: field.type for field in msgspec.structs.fields(Fill)}

Row = dict[str, Any]
"""Some fields of a fill, each of the type that a fill has it in."""


class BadFile(Exception):  # noqa: N818 # names what is so
    """A file cannot be written, or does not hold fills; the message names the line and the field."""


def write(path: Path, fills: Iterable[NumberedFill]) -> int:
    """Write fills to a file, which is there as a whole or not at all. Returns how many they were.

    Raises:
        BadFile: it is neither CSV nor Parquet, or what writes Parquet is not installed.
    """
    to = _writer(path)
    with _replacing(path) as file:
        return to(file, fills)


def _writer(path: Path) -> Callable[[IO[bytes], Iterable[NumberedFill]], int]:
    if path.suffix == ".csv":
        return _write_csv
    if path.suffix == PARQUET:
        _pyarrow()
        return _write_parquet
    raise BadFile(f"{path}: a file of fills ends in .csv or .parquet")


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A new file in the place of another one, once all of it is written."""
    beside = path.with_name(f".{path.name}.new")
    try:
        with beside.open("wb") as file:
            yield file
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _write_csv(file: IO[bytes], fills: Iterable[NumberedFill]) -> int:
    count = 0
    file.write(f"{','.join(COLUMNS)}\n".encode())
    for fill in fills:  # no id, symbol or number has anything in it that would have to be quoted
        values = (getattr(fill, name) for name in COLUMNS)
        line = ",".join(_text(value) for value in values)
        file.write(f"{line}\n".encode())
        count += 1
    return count


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds")
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def _write_parquet(file: IO[bytes], fills: Iterable[NumberedFill]) -> int:
    arrow, parquet = _pyarrow()
    kinds = {
        "number": arrow.int64(),
        "quantity": arrow.int64(),
        "price": arrow.decimal128(38, 24),
        "multiplier": arrow.decimal128(38, MULTIPLIER_PLACES),
        "fee": arrow.decimal128(38, MONEY_PLACES),
        "created_at": arrow.timestamp("us", tz="UTC"),
    }
    schema = arrow.schema([(name, kinds.get(name, arrow.string())) for name in COLUMNS])
    count = 0
    with parquet.ParquetWriter(file, schema) as writer:
        rows: list[Row] = []
        for fill in fills:
            rows.append({name: getattr(fill, name) for name in COLUMNS})
            count += 1
            if len(rows) == _ROWS:
                writer.write_table(arrow.Table.from_pylist(rows, schema=schema))
                rows = []
        writer.write_table(arrow.Table.from_pylist(rows, schema=schema))
    return count


def read(path: Path) -> Iterator[tuple[str, Row]]:
    """The rows of a file, each with where it is.

    Raises:
        BadFile: it cannot be read, has no column that is needed, or a value in it is none of its field.
    """
    rows = _read_parquet(path) if path.suffix == PARQUET else _read_csv(path)
    for where, values in rows:
        row = {}
        for name in COMPARED:
            if name in values:
                row[name] = _value(f"{path}, {where}", name, values[name])
        yield where, row


def _value(where: str, name: str, value: Any) -> Any:
    if isinstance(value, str):
        value = value.strip()
        if name == "side":
            value = value.lower()
    try:
        if name in ("price", "fee"):
            # An exponent is as good, in a file; and the decimals of a Parquet file all have the same number of digits.
            taken = value.normalize() if isinstance(value, Decimal) else Decimal(value)
            check_price(name, taken) if name == "price" else check_fee(name, taken)
        else:
            taken = msgspec.convert(value, _KINDS[name], strict=not isinstance(value, str))
    except (msgspec.ValidationError, FieldError, ArithmeticError, TypeError) as error:
        raise BadFile(f"{where}: `{name}` is {value!r}, and that is none: {error}") from error
    return taken


def _read_csv(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file, strict=True)
            header = [name.strip() for name in next(lines, [])]
            _check_header(path, header)
            for values in lines:
                if not values:
                    continue
                if len(values) != len(header):
                    detail = f"{len(values)} values, where the header has {len(header)}"
                    raise BadFile(f"{path}, line {lines.line_num}: {detail}")
                yield f"line {lines.line_num}", dict(zip(header, values, strict=True))
    except OSError as error:
        raise BadFile(f"{path}: {error.strerror or error}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise BadFile(f"{path} is no CSV file: {error}") from error


def _read_parquet(path: Path) -> Iterator[tuple[str, Row]]:
    arrow, parquet = _pyarrow()
    try:
        with parquet.ParquetFile(path) as file:
            _check_header(path, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(columns=[name for name in COMPARED if name in file.schema_arrow.names]):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except OSError as error:
        raise BadFile(f"{path}: {error.strerror or error}") from error
    except arrow.ArrowException as error:
        raise BadFile(f"{path} is no Parquet file: {error}") from error


def _check_header(path: Path, names: list[str]) -> None:
    missing = [name for name in NEEDED if name not in names]
    if missing:
        raise BadFile(f"{path}: no column `{missing[0]}`; it must have {', '.join(NEEDED)}")
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise BadFile(f"{path}: two columns `{min(twice)}`")


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow  # an extra, and large: only who wants Parquet waits for it
        from pyarrow import parquet  # as above
    except ImportError as error:
        raise BadFile("Parquet takes the extra `parquet`: pyarrow is not installed") from error
    return pyarrow, parquet
