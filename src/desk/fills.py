"""The fills of a ledger's database, read as they are at one instant; the ledger may go on meanwhile."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ledger.reading import COLUMNS, fill_of
from ledger.store import StoreUnusable, damage_reported
from ledger.tables import SCHEMA_VERSION, text_of
from wire.orders import NumberedFill

_FILLS = f"""
SELECT {COLUMNS} FROM fills
WHERE (? IS NULL OR symbol = ?) AND created_at >= ? AND created_at < ? ORDER BY symbol, number
"""  # noqa: S608 # constants

_ALWAYS = datetime(1, 1, 1, tzinfo=UTC)
_NEVER = datetime(9999, 12, 31, tzinfo=UTC)


class NoLedger(Exception):  # noqa: N818 # names what is so
    """There is no database to read; the message says why."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which fills are meant.

    Attributes:
        symbol: only of this symbol; of all if None.
        since: executed at this time or later.
        until: executed before this time.
    """

    symbol: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of somebody else's file is meant. One without a time is, whatever the times."""
        time = row.get("created_at")
        return self.symbol in (None, row["symbol"]) and (
            time is None or ((self.since is None or time >= self.since) and (self.until is None or time < self.until))
        )


def read(database: Path, chosen: Chosen) -> Iterator[NumberedFill]:
    """The fills that are meant, by symbol and number.

    Raises:
        NoLedger: there is no database, it is one of another version, or it is damaged.
    """
    if not database.is_file():
        raise NoLedger(f"there is no ledger database at {database}")
    try:
        with damage_reported(database), closing(_opened(database)) as connection:
            since, until = text_of(chosen.since or _ALWAYS), text_of(chosen.until or _NEVER)
            for row in connection.execute(_FILLS, (chosen.symbol, chosen.symbol, since, until)):
                yield fill_of(row)
    except (StoreUnusable, sqlite3.Error) as error:
        raise NoLedger(f"{database} cannot be read: {error}") from error


def _opened(database: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
    [(version,)] = connection.execute("PRAGMA user_version")
    if version != SCHEMA_VERSION:
        connection.close()
        raise StoreUnusable(f"it has schema version {version}, and {SCHEMA_VERSION} is read")
    return connection
