"""A NATS server as `up` starts it, with the accounts, users and keys of a stack, but without services."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import nats
from nats.aio.client import Client

from jet import topology
from jet.connection import Connection
from jet.grants import Grant, inbox
from process.health import Health
from stack import keys, process_tree
from stack.programs import programs
from stack.settings import StackSettings, read
from support.broker import PatientConnection, free_port, shape_of

SYMBOL = """
[symbols.AAA]
tick = "0.01"
reference_price = "100.00"
quote_size = 10
gamma = "0.1"
k = "20"
a = "1"
sigma = "0.3"
"""


@dataclass(frozen=True)
class Server:
    """A server with permissions, as `up` starts it, with a market log of one shard."""

    settings: StackSettings

    @property
    def url(self) -> str:
        return self.settings.stack.url

    def seed(self, user: str) -> Path:
        seed = self.settings.stack.nats_seed(user)
        assert seed is not None
        return seed

    def connection(self, user: str, health: Health | None = None) -> Connection:
        """Return a connection: a service's, which reports to its health, or a patient one for a test."""
        kind = PatientConnection if health is None else Connection
        return kind(self.url, user, health or Health(user), self.seed(user))

    @asynccontextmanager
    async def client(self, user: str, refused: list[str]) -> AsyncIterator[Client]:
        """Connect a client that is not ours. Errors from the server are added to `refused`."""

        async def on_error(error: Exception) -> None:
            refused.append(str(error))

        client = await nats.connect(
            self.url, nkeys_seed=str(self.seed(user)), inbox_prefix=inbox(user), error_cb=on_error
        )
        yield client
        await client.close()


@contextmanager
def serving(folder: Path, more: Sequence[Grant] = (), **variables: object) -> Iterator[Server]:
    """Run such a server on a folder, with the declared streams.

    Args:
        folder: for all its files; deleted at the end.
        more: additional users.
        variables: more settings, as `QS_` variables without the prefix.
    """
    (folder / "market.toml").write_text(SYMBOL)
    settings = read(
        {
            "QS_MARKET_FILE": str(folder / "market.toml"),
            "QS_MARKET_SHARDS": "1",
            "QS_STACK_DATA_DIR": str(folder),
            "QS_STACK_NATS_PORT": str(free_port()),
            "QS_STACK_NATS_MONITOR_PORT": str(free_port()),
            **{f"QS_{name}": str(value) for name, value in variables.items()},
        }
    )
    keys.make(settings, more)
    with (folder / "nats.log").open("wb") as log:
        process = subprocess.Popen(
            programs(settings)[0].command, stdout=log, stderr=log, preexec_fn=process_tree.die_with_parent
        )
    try:
        found = Server(settings)
        asyncio.run(_prepare(found))
        yield found
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


async def _prepare(server: Server) -> None:
    async with server.connection("operator") as operator:
        await topology.prepare(operator, shape_of(server.settings.market))


async def processed(client: Client) -> None:
    """Wait until the server has processed everything that was sent, and has reported violations.

    A plain flush could overtake messages that wait to be sent.
    """
    await client._flush_pending(force_flush=True)
    await client.flush()
