"""Reads the fills of a ledger's database as of one instant. The ledger may keep running."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ledger.queries import COLUMNS, fill_of
from ledger.store import StoreUnusable, damage_reported
from ledger.tables import SCHEMA_VERSION, text_of
from wire.orders import NumberedFill

_FILLS = f"""
SELECT {COLUMNS} FROM fills
WHERE (? IS NULL OR symbol = ?) AND created_at >= ? AND created_at < ? ORDER BY symbol, number
"""  # noqa: S608 # constants

_ALWAYS = datetime(1, 1, 1, tzinfo=UTC)
_NEVER = datetime(9999, 12, 31, tzinfo=UTC)


class NoLedger(Exception):  # noqa: N818 # names a state
    """There is no readable database; the message states why."""


@dataclass(frozen=True, slots=True)
class Selection:
    """A selection of fills.

    Attributes:
        symbol: only fills of this symbol; None for all.
        since: only fills executed at this time or later; None for all.
        until: only fills executed before this time; None for all.
    """

    symbol: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def matches(self, row: Mapping[str, Any]) -> bool:
        """True if a row of another party's file is selected. A row without a time matches any times."""
        time = row.get("created_at")
        return self.symbol in (None, row["symbol"]) and (
            time is None or ((self.since is None or time >= self.since) and (self.until is None or time < self.until))
        )


def read(database: Path, selection: Selection) -> Iterator[NumberedFill]:
    """Yield the selected fills, by symbol and number.

    Raises:
        NoLedger: there is no database, it has another schema version, or it is damaged.
    """
    if not database.is_file():
        raise NoLedger(f"there is no ledger database at {database}")
    try:
        with damage_reported(database), closing(_open(database)) as connection:
            since, until = text_of(selection.since or _ALWAYS), text_of(selection.until or _NEVER)
            for row in connection.execute(_FILLS, (selection.symbol, selection.symbol, since, until)):
                yield fill_of(row)
    except (StoreUnusable, sqlite3.Error) as error:
        raise NoLedger(f"{database} cannot be read: {error}") from error


def _open(database: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
    [(version,)] = connection.execute("PRAGMA user_version")
    if version != SCHEMA_VERSION:
        connection.close()
        raise StoreUnusable(f"it has schema version {version}, but only {SCHEMA_VERSION} can be read")
    return connection
