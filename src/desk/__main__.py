"""The command lines: `python -m desk export FILE`, `python -m desk reconcile FILE`, and `python -m desk backtest`."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, CycloptsError, Parameter, Token

from desk import backtest_report, estimates, fill_files, fills, reconcile
from desk.backtest import Moment
from desk.fill_files import BadFile
from desk.fills import NoLedger, Selection
from process.installation import COMMAND
from process.settings import SettingsError, tables
from stack.instances import LEDGER_DATABASE
from stack.settings import read

SAME = 0
DIFFERS = 1
CANNOT = 2

MAX_HOURS = 100
MAX_PATHS = 100_000

app = App(
    name=COMMAND,
    help="Export the ledger's fills to a file, compare them with another party's file, and backtest the strategy.",
    version_flags=[],
    result_action="return_value",
)

_Symbol = Annotated[str | None, Parameter(help="Only the fills of this symbol.")]
_Since = Annotated[datetime | None, Parameter(help="Only fills executed at this time (UTC) or later.")]
_Until = Annotated[datetime | None, Parameter(help="Only fills executed before this time (UTC).")]
_Database = Annotated[
    Path | None, Parameter(help="A ledger's database. [default: the first ledger's, in the data folder]")
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
    """Write the recorded fills to a CSV or Parquet file, by symbol and number.

    The stack may be up or down. An existing file is replaced once the new one is complete.

    Exit code: 0 if the file was written; 2 if not.

    Parameters
    ----------
    file
        The file. Its name ends in .csv or .parquet.
    """
    count = fill_files.write(file, fills.read(database or _default_database(), _selection(symbol, since, until)))
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
    """Compare the recorded fills with another party's file, and print the differences.

    missing: the fill is only in the file. extra: the fill is only in the ledger. different: both have it, with
    different content. repeated: the file has it more than once. Fills are matched by symbol and id. The columns side,
    quantity, price, order_id, quote_id, created_at and fee are compared if the file has them. The options select fills
    on both sides; those about time need the column created_at.

    Exit code: 0 if all fills are the same; 1 if not; 2 if the file or the ledger's database cannot be read.

    Parameters
    ----------
    file
        CSV with a header, or Parquet if its name ends in .parquet. It has at least the columns symbol, fill_id, side,
        quantity and price. `export` writes such a file.
    """
    selection = _selection(symbol, since, until)
    ours = fills.read(database or _default_database(), selection)
    theirs = ((where, row) for where, row in fill_files.read(file) if selection.matches(row))
    found: dict[str, int] = {}
    for difference in reconcile.compare(ours, theirs):
        print(difference)
        found[difference.kind] = found.get(difference.kind, 0) + 1
    if not found:
        print("all fills are the same")
        return SAME
    print(", ".join(f"{count:,} {kind}" for kind, count in sorted(found.items())))
    return DIFFERS


def _to_int(_: object, tokens: Sequence[Token]) -> int:
    """Convert an option to a whole number. The library's own converter would round 5.5."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError("must be a whole number.") from None


def _check_hours(_: object, hours: float) -> None:
    if not 0 < hours <= MAX_HOURS:
        raise ValueError(f"must be above 0, and at most {MAX_HOURS}.")


def _check_paths(_: object, paths: int) -> None:
    if not estimates.MIN_PATHS <= paths <= MAX_PATHS:
        raise ValueError(f"must be from {estimates.MIN_PATHS} to {MAX_PATHS}.")


def _check_file(_: object, file: Path | None) -> None:
    """Refuse a file that cannot be written, before the long computation rather than after it."""
    if file is not None and (file.is_dir() or not file.parent.is_dir()):
        raise ValueError("must be a file in an existing folder.")


@app.command
def backtest(
    *,
    hours: Annotated[float, Parameter(validator=_check_hours)] = 8.0,
    paths: Annotated[int, Parameter(converter=_to_int, validator=_check_paths)] = 20,
    seed: Annotated[int, Parameter(converter=_to_int)] = 1,
    symbol: str | None = None,
    json: Annotated[Path | None, Parameter(validator=_check_file)] = None,
    svg: Annotated[Path | None, Parameter(validator=_check_file)] = None,
) -> int:
    """Simulate the makers' strategy in a market that follows its model, and compare it with makers without skew.

    Prints, for each symbol of the market file, the averages over all paths with 95 % confidence bounds: the profit, its
    standard deviation, how much of it was captured from the spread, and the inventory. Three makers with a fixed spread
    see the same orders: one limited to hold as much inventory as the skewed one on average, one limited to earn as
    much, and one without a limit. No stack needs to run.

    Exit code: 0, whatever the figures are; 2 if an option or the market file is wrong, or a file cannot be written.

    Parameters
    ----------
    hours
        The length of each path.
    paths
        The number of independent paths. Four times as many halve the bounds.
    seed
        The seed of the random numbers. The same options give the same figures.
    symbol
        Simulate only this symbol.
    json
        Also write all figures to this file.
    svg
        Also plot the figures and one path to this file.
    """
    symbols = read().market.symbols
    if symbol is not None and symbol not in symbols:
        print(f"--symbol: {symbol} is not in the market file; there are {', '.join(symbols)}", file=sys.stderr)
        return CANNOT
    print(
        f"{paths:,} paths of {hours:g} hours; 95 % confidence bounds; fills and inventory in lots, the rest in money",
        flush=True,
    )
    track: list[Moment] = []
    results: list[estimates.Result] = []
    for name in symbols if symbol is None else [symbol]:
        drawn = None if results or svg is None else track
        results.append(estimates.backtest(name, symbols[name], hours=hours, paths=paths, seed=seed, track=drawn))
        print(f"\n{backtest_report.table(results[-1])}", flush=True)
    if json is not None:
        document = {"hours": hours, "paths": paths, "seed": seed, "symbols": results}
        json.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
    if svg is not None:
        svg.write_text(backtest_report.plot(results, track, hours))
    return SAME


def _selection(symbol: str | None, since: datetime | None, until: datetime | None) -> Selection:
    return Selection(symbol, _in_utc(since), _in_utc(until))


def _in_utc(time: datetime | None) -> datetime | None:
    return time.replace(tzinfo=UTC) if time is not None and time.tzinfo is None else time


def _default_database() -> Path:
    return read().data / Path(tables().get("ledger", {}).get("database", LEDGER_DATABASE))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit code."""
    try:
        return int(app(arguments, exit_on_error=False) or SAME)
    except CycloptsError:  # the library has printed the reason
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
