"""P2: the same work done with row locks in PostgreSQL, for comparison.

An order is one transaction: take from the quote's row, add the fill, change the position's row. A service would send
three statements; a function in the database does the same in one call. Both are measured, with prepared statements over
a local socket, without HTTP, by pgbench, which uses very little processor time itself. PostgreSQL has its default
settings: a commit is synced before it is acknowledged.
"""

import asyncio
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from bench.figures import Figure
from bench.orders import Venue
from bench.stage import CouldNotMeasure, Stage, symbol_names
from bench.trial import Skipped, Trial

SYMBOLS = 8
CLIENTS = 8
CONNECTIONS = 32
REPEATS = 5
SECONDS = 3.0

_TABLES = """
CREATE TABLE quotes (symbol int PRIMARY KEY, quote_id text, ask numeric, remaining int, expires_at timestamptz);
CREATE TABLE fills (fill_id bigserial PRIMARY KEY, order_id uuid UNIQUE, symbol int, side text, quantity int,
    price numeric, quote_id text, created_at timestamptz);
CREATE TABLE positions (symbol int PRIMARY KEY, net_quantity bigint, position_version bigint);
INSERT INTO quotes SELECT n, 'q' || n, 100.05, 2000000000, now() + interval '1 hour' FROM generate_series(1, 8) n;
INSERT INTO positions SELECT n, 0, 0 FROM generate_series(1, 8) n;
CREATE FUNCTION execute(traded int, client_order uuid) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE hit quotes; number bigint;
BEGIN
    UPDATE quotes SET remaining = remaining - 1
        WHERE symbol = traded AND remaining >= 1 AND ask <= 200.00 AND expires_at > now() RETURNING * INTO hit;
    INSERT INTO fills (order_id, symbol, side, quantity, price, quote_id, created_at)
        VALUES (client_order, traded, 'buy', 1, hit.ask, hit.quote_id, now()) RETURNING fill_id INTO number;
    UPDATE positions SET net_quantity = net_quantity - 1, position_version = position_version + 1
        WHERE symbol = traded;
    RETURN number;
END $$;
"""

_STATEMENTS = """
\\set symbol :client_id + 1
BEGIN;
UPDATE quotes SET remaining = remaining - 1
    WHERE symbol = :symbol AND remaining >= 1 AND ask <= 200.00 AND expires_at > now() RETURNING ask, quote_id \\gset
INSERT INTO fills (order_id, symbol, side, quantity, price, quote_id, created_at)
    VALUES (gen_random_uuid(), :symbol, 'buy', 1, :ask, :quote_id, now());
UPDATE positions SET net_quantity = net_quantity - 1, position_version = position_version + 1 WHERE symbol = :symbol;
COMMIT;
"""
"""Every client has its own symbol, so none waits for another's lock."""

_CALL = """
\\set symbol :client_id + 1
SELECT execute(:symbol, gen_random_uuid());
"""


async def measure(trial: Trial) -> list[Figure]:
    """Orders per second: one symbol at 32 connections, beside PostgreSQL with 8 of each."""
    binaries = _binaries()
    if binaries is None:
        raise Skipped("no PostgreSQL found: install Debian's postgresql to compare with it")
    async with (
        _Postgres(binaries, trial.folder).running() as postgres,
        Stage(trial.folder / "stage", symbol_names(1)) as stage,
    ):
        venue = Venue(trial, stage)
        await venue.start()
        await postgres.rate(_STATEMENTS, 1)
        seconds = 1 if trial.short else SECONDS
        rates, statements, calls = [], [], []
        for _ in range(trial.repeats(REPEATS)):
            statements.append(await postgres.rate(_STATEMENTS, seconds))
            calls.append(await postgres.rate(_CALL, seconds))
            rates.append((await venue.fill(stage.symbols, CONNECTIONS, trial.seconds(SECONDS))).load.rate)
            trial.report(f"{rates[-1]:,.0f} orders/s; PostgreSQL {statements[-1]:,.0f}, in one call {calls[-1]:,.0f}")
        version = await postgres.version()
    name, unit = f"1 symbol, {CONNECTIONS} connections", "orders/s"
    raw: dict[str, float | str] = {"reference": version}
    return [
        Figure(name=name, unit=unit, measured=rates, reference=statements, target=2.5, aim=3.0, raw=raw),
        Figure(name=f"{name}, beside one call of a function", unit=unit, measured=rates, reference=calls, raw=raw),
    ]


def _binaries() -> Path | None:
    """Return the folder with PostgreSQL's programs: the newest that Debian installed, or the one on the path."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if installed:
        return installed[-1].parent
    found = shutil.which("postgres")
    return Path(found).resolve().parent if found else None


class _Postgres:
    """Our own PostgreSQL server in a folder, reached through its socket there."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries = binaries
        self._folder = folder / "postgres"
        self._folder.mkdir()
        # It refuses to run as root, so it runs as the user that its package has created.
        self._user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name

    @asynccontextmanager
    async def running(self) -> AsyncIterator["_Postgres"]:
        """Run the server, with its tables, for the duration of the block."""
        if os.geteuid() == 0:
            self._folder.parent.chmod(0o755)
            shutil.chown(self._folder, self._user)
        data = str(self._folder / "data")
        await self._run("initdb", "--auth=trust", "--no-instructions", "-D", data)
        options = f"-c listen_addresses='' -c unix_socket_directories={self._folder}"
        await self._run("pg_ctl", "start", "--wait", "-D", data, "-o", options, "-l", str(self._folder / "log"))
        try:
            await self._run("psql", *self._where(), "-q", "-v", "ON_ERROR_STOP=1", "-c", _TABLES)
            yield self
        finally:
            await self._run("pg_ctl", "stop", "--mode=immediate", "-D", data)

    async def rate(self, order: str, seconds: float) -> float:
        """Measure the transactions per second of a pgbench script, each of which is a fill.

        Raises:
            CouldNotMeasure: the number of fills differs from the number of transactions.
        """
        before = int(await self._count())
        script = self._folder / "order.sql"
        script.write_text(order)
        arguments = ["-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "1", "-T", str(int(seconds)), "-f", str(script)]
        output = await self._run("pgbench", *self._where(), *arguments)
        rate, done = re.search(r"tps = ([\d.]+)", output), re.search(r"actually processed: (\d+)", output)
        fills = int(await self._count()) - before
        if not rate or not done or int(done[1]) != fills:
            raise CouldNotMeasure(f"PostgreSQL has {fills} more fills, and pgbench printed: {output}")
        return float(rate[1])

    async def version(self) -> str:
        """Return PostgreSQL's version."""
        return (await self._run("postgres", "--version")).strip()

    async def _count(self) -> str:
        return await self._run("psql", *self._where(), "-tA", "-c", "SELECT count(*) FROM fills")

    def _where(self) -> Sequence[str]:
        return ("-h", str(self._folder), "-U", self._user, "-d", "postgres")

    async def _run(self, name: str, *arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            str(self._binaries / name),
            *arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self._folder,
            user=self._user if os.geteuid() == 0 else None,
        )
        output = (await process.communicate())[0].decode(errors="replace")
        if process.returncode:
            raise CouldNotMeasure(f"{name} failed: {output}")
        return output
