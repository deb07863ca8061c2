"""The command lines: `python -m desk export FILE`, `python -m desk reconcile FILE`, and `python -m desk backtest`."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, CycloptsError, Parameter, Token

from desk import estimates, fills, reconcile, showing, table
from desk.backtest import Moment
from desk.fills import Chosen, NoLedger
from desk.table import BadFile
from process.installation import COMMAND
from process.settings import SettingsError, tables
from stack.instances import LEDGER_DATABASE
from stack.settings import read

SAME = 0
DIFFERS = 1
CANNOT = 2

MOST_HOURS = 100
MOST_PATHS = 100_000

app = App(
    name=COMMAND,
    help="Export the ledger's fills to a file, compare them with somebody else's, and try the strategy by itself.",
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


def _whole(_: object, tokens: Sequence[Token]) -> int:
    """A whole number. By default, 5.5 is one too, after rounding."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError("it is no whole number.") from None


def _check_hours(_: object, hours: float) -> None:
    if not 0 < hours <= MOST_HOURS:
        raise ValueError(f"must be above 0, and at most {MOST_HOURS}.")


def _check_paths(_: object, paths: int) -> None:
    if not estimates.FEWEST_PATHS <= paths <= MOST_PATHS:
        raise ValueError(f"must be from {estimates.FEWEST_PATHS} to {MOST_PATHS}.")


def _check_file(_: object, file: Path | None) -> None:
    """Refuse what cannot be written before a long computation rather than after it."""
    if file is not None and (file.is_dir() or not file.parent.is_dir()):
        raise ValueError("is no file in a folder that exists.")


@app.command
def backtest(
    *,
    hours: Annotated[float, Parameter(validator=_check_hours)] = 8.0,
    paths: Annotated[int, Parameter(converter=_whole, validator=_check_paths)] = 20,
    seed: Annotated[int, Parameter(converter=_whole)] = 1,
    symbol: str | None = None,
    json: Annotated[Path | None, Parameter(validator=_check_file)] = None,
    svg: Annotated[Path | None, Parameter(validator=_check_file)] = None,
) -> int:
    """Simulate the makers' strategy by itself, in a market that behaves as its model says, beside one without skew.

    Prints, for each symbol of the market file, what a path comes to on average, with 95 % confidence bounds: profit,
    its standard deviation, how much of it was captured from the spread, and the inventory that was held. Three makers
    with a fixed spread see the same orders: one limited to hold as much inventory as the skewed one on average, one
    limited to earn as much, and one without a limit. It needs no running stack.

    Exit code: 0, whatever comes of it; 2 if an option or the market file is wrong, or a file cannot be written.

    Parameters
    ----------
    hours
        How long each path is.
    paths
        How many independent paths: four times as many halve the bounds.
    seed
        What the random numbers are drawn from: the same options give the same figures.
    symbol
        Only this symbol.
    json
        Write all figures to this file, too.
    svg
        Draw them, and one path, to this file.
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
        print(f"\n{showing.table(results[-1])}", flush=True)
    if json is not None:
        document = {"hours": hours, "paths": paths, "seed": seed, "symbols": results}
        json.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
    if svg is not None:
        svg.write_text(showing.plot(results, track, hours))
    return SAME


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
