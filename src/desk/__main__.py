"""The command lines: `python -m desk export FILE`, and `python -m desk reconcile FILE`."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from desk import fills, reconcile, table
from desk.fills import Chosen, NoLedger
from desk.table import BadFile
from runtime.settings import SettingsError, tables
from runtime.shipped import COMMAND
from stack.instances import LEDGER_DATABASE
from stack.settings import read

SAME = 0
DIFFERS = 1
CANNOT = 2

app = App(
    name=COMMAND,
    help="Export the ledger's fills to a file, and compare them with somebody else's.",
    version_flags=[],
    result_action="return_value",
)

_Symbol = Annotated[str | None, Parameter(help="Only the fills of this symbol.")]
_Since = Annotated[datetime | None, Parameter(help="Only fills executed at this time (UTC) or later.")]
_Until = Annotated[datetime | None, Parameter(help="Only fills executed before this time (UTC).")]
_Database = Annotated[
    Path | None, Parameter(help="A ledger's database. [default: that of the first ledger, in the data folder]")
]


@app.command
def export(
    file: Path,
    /,
    *,
    symbol: _Symbol = None,
    since: _Since = None,
    until: _Until = None,
    database: _Database = None,
) -> int:
    """Write the recorded fills to a file, by symbol and number: CSV, or Parquet if its name ends in .parquet.

    The stack may be up or down. An existing file is replaced once the new one is complete.

    Exit code: 0 if the file was written; 2 if not.

    Parameters
    ----------
    file
        The file: it ends in .csv or .parquet.
    """
    count = table.write(file, fills.read(database or _ledgers_database(), _chosen(symbol, since, until)))
    print(f"{count:,} fills written to {file}")
    return SAME


@app.command(name="reconcile")
def compare(
    file: Path,
    /,
    *,
    symbol: _Symbol = None,
    since: _Since = None,
    until: _Until = None,
    database: _Database = None,
) -> int:
    """Compare the recorded fills with somebody else's file, and print those that differ.

    missing: the file has it, the ledger does not. extra: the ledger has it, the file does not. different: both have it,
    with different content. repeated: the file has it more than once. Fills are matched by symbol and id. The columns
    side, quantity, price, order_id, quote_id, created_at and fee are compared as far as the file has them. The options
    select fills on both sides; those about time need the column created_at.

    Exit code: 0 if all are the same; 1 if not; 2 if the file, or the ledger's database, cannot be read.

    Parameters
    ----------
    file
        CSV with a header, or Parquet if its name ends in .parquet. It has at least the columns symbol, fill_id, side,
        quantity and price; `export` writes such a file.
    """
    chosen = _chosen(symbol, since, until)
    ours = fills.read(database or _ledgers_database(), chosen)
    theirs = ((where, row) for where, row in table.read(file) if chosen.takes(row))
    found: dict[str, int] = {}
    for difference in reconcile.compare(ours, theirs):
        print(difference)
        found[difference.kind] = found.get(difference.kind, 0) + 1
    if not found:
        print("all fills are the same")
        return SAME
    print(", ".join(f"{count:,} {kind}" for kind, count in sorted(found.items())))
    return DIFFERS


def _chosen(symbol: str | None, since: datetime | None, until: datetime | None) -> Chosen:
    return Chosen(symbol, _in_utc(since), _in_utc(until))


def _in_utc(time: datetime | None) -> datetime | None:
    return time.replace(tzinfo=UTC) if time is not None and time.tzinfo is None else time


def _ledgers_database() -> Path:
    return read().data / Path(tables().get("ledger", {}).get("database", LEDGER_DATABASE))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the result is the exit code."""
    try:
        return int(app(arguments, exit_on_error=False) or SAME)
    except CycloptsError:  # it has told why
        return CANNOT
    except (SettingsError, NoLedger, BadFile) as error:
        print(error, file=sys.stderr)
    except OSError as error:
        print(f"{error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        pass
    return CANNOT


if __name__ == "__main__":
    sys.exit(main())
