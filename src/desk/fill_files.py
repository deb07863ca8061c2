"""Reads and writes files of fills: CSV, or Parquet if the name ends in .parquet.

A file has a column for each field of a fill: text in UTF-8, times in UTC, exact prices. The columns of a file that is
read may be in any order.
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
"""The columns of a written file."""

REQUIRED = ("symbol", "fill_id", "side", "quantity", "price")
"""The columns that another party's file must have."""

COMPARED = (*REQUIRED, "order_id", "quote_id", "created_at", "fee")
"""The columns of such a file that are compared, if it has them."""

PARQUET = ".parquet"
_ROWS = 50_000
"""Rows written to a Parquet file at a time."""

_KINDS = {field.name: field.type for field in msgspec.structs.fields(Fill)}

Row = dict[str, Any]
"""Some fields of a fill, each with the type that it has in a fill."""


class BadFile(Exception):  # noqa: N818 # names a state
    """A file cannot be written, or does not contain fills; the message names the line and the field."""


def write(path: Path, fills: Iterable[NumberedFill]) -> int:
    """Write fills to a file, completely or not at all. Return their number.

    Raises:
        BadFile: the name ends neither in .csv nor in .parquet, or pyarrow is not installed.
    """
    write_rows = _writer(path)
    with _replacing(path) as file:
        return write_rows(file, fills)


def _writer(path: Path) -> Callable[[IO[bytes], Iterable[NumberedFill]], int]:
    if path.suffix == ".csv":
        return _write_csv
    if path.suffix == PARQUET:
        _pyarrow()
        return _write_parquet
    raise BadFile(f"{path}: the name of a file of fills ends in .csv or .parquet")


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file that replaces `path` once it is completely written."""
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
    for fill in fills:  # no value contains a character that CSV must quote
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
    """Yield the rows of a file, each with its place in the file.

    Raises:
        BadFile: the file cannot be read, lacks a needed column, or has an invalid value.
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
            # A file may use exponents, and all decimals of a Parquet column have the same number of places.
            taken = value.normalize() if isinstance(value, Decimal) else Decimal(value)
            check_price(name, taken) if name == "price" else check_fee(name, taken)
        else:
            taken = msgspec.convert(value, _KINDS[name], strict=not isinstance(value, str))
    except (msgspec.ValidationError, FieldError, ArithmeticError, TypeError) as error:
        raise BadFile(f"{where}: `{name}` is {value!r}, which is not valid: {error}") from error
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
                    detail = f"{len(values)} values, but the header has {len(header)}"
                    raise BadFile(f"{path}, line {lines.line_num}: {detail}")
                yield f"line {lines.line_num}", dict(zip(header, values, strict=True))
    except OSError as error:
        raise BadFile(f"{path}: {error.strerror or error}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise BadFile(f"{path} is not a CSV file: {error}") from error


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
        raise BadFile(f"{path} is not a Parquet file: {error}") from error


def _check_header(path: Path, names: list[str]) -> None:
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise BadFile(f"{path}: no column `{missing[0]}`; it must have {', '.join(REQUIRED)}")
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise BadFile(f"{path}: two columns `{min(twice)}`")


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow  # an optional extra, and slow to import
        from pyarrow import parquet  # as above
    except ImportError as error:
        raise BadFile("Parquet needs the extra `parquet`: pyarrow is not installed") from error
    return pyarrow, parquet
