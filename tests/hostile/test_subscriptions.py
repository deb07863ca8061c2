"""Forged messages on every subscription of every service: each service continues to run, and works as before.

There are two times `QS_FUZZ_EXAMPLES` rounds of messages from `support.forger`, with the seed `QS_FUZZ_SEED`.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from exchange.service import Exchange
from exposure.service import ExposureService, ExposureSettings
from jet.api import INVALID_REPLY
from jet.connection import Connection
from jet.unexpected_messages import UNEXPECTED
from ledger.service import PARTS, Ledger, LedgerSettings
from maker.service import Maker, MakerSettings
from process.clock import utc_now
from process.health import Health
from process.settings import Market, Stack
from support.broker import Broker
from support.builders import order
from support.forger import Forger
from support.raw import Raw
from support.waiting import eventually
from ui.service import PARTS as UI_PARTS
from ui.service import UiService, UiSettings

ROUNDS = max(1, int(os.environ.get("QS_FUZZ_EXAMPLES", "4")) * 2)
SEED = int(os.environ.get("QS_FUZZ_SEED", "0"))
EACH = 3
"""Messages for each subscription in a round."""

KINDS = ("exposure", "exchange", "ledger", "maker", "ui")


@dataclass
class Member:
    """A running service."""

    service: Any
    health: Health
    connection: Connection
    task: "asyncio.Task[None]"

    @property
    def fine(self) -> bool:
        """True if it is ready. Fails if it has ended, or waits for something."""
        if self.task.done():
            self.task.result()
            raise AssertionError("it has ended")
        assert self.health.ready, self.health.report()
        return True


class System:
    """One instance of each service, on one broker."""

    def __init__(self, broker: Broker, folder: Path, exits: AsyncExitStack) -> None:
        self.broker = broker
        self.market: Market = replace(broker.market, quote_ttl=30.0, max_quote_ttl=30.0)
        self.members: dict[str, Member] = {}
        self._folder = folder
        self._exits = exits

    async def start(self, kind: str, name: str) -> Member:
        """Start a service, and wait until it is ready."""
        parts = {
            "exchange": ("nats", "market"),
            "exposure": ("nats", "reservations", "market"),
            "ledger": PARTS,
            "maker": ("nats", "positions", "market", "switch"),
            "ui": UI_PARTS,
        }
        health = Health(kind, *parts[kind])
        connection = Connection(self.broker.url, kind, health)
        market, stack = self.market, Stack(data_dir=self._folder, nats_url=self.broker.url)
        made: dict[str, Callable[[], Any]] = {
            "exchange": lambda: Exchange(market, connection, health, utc_now),
            "exposure": lambda: ExposureService(
                ExposureSettings(market=market, stack=stack), connection, health, utc_now
            ),
            "ledger": lambda: Ledger(
                LedgerSettings(market=market, stack=stack, database=Path(f"{name}.sqlite")), connection, health, utc_now
            ),
            "maker": lambda: Maker(MakerSettings(market=market, stack=stack), connection, health, utc_now),
            "ui": lambda: UiService(UiSettings(market=market, stack=stack), connection, health, utc_now),
        }
        service = made[kind]()
        member = Member(service, health, connection, asyncio.create_task(service.run(), name=name))
        self._exits.push_async_callback(_ended, member.task)
        await eventually(lambda: member.fine)
        return member

    async def all_fine(self) -> None:
        """Wait until every service is ready; fail if one has ended."""
        for member in self.members.values():
            await eventually(lambda member=member: member.fine)  # type: ignore[misc] # mypy cannot infer it

    async def trades(self, number: int) -> None:
        """Wait until an order of each symbol fills, its position is committed, and the symbol is quoted from it."""
        exchange, ledger = self.members["exchange"].service, self.members["ledger"].service
        for symbol in self.market.symbols:
            before = ledger.position(symbol).position_version

            async def filled(symbol: str = symbol) -> bool:
                sent = order(order_id=f"{symbol}-order-{number}", symbol=symbol, quantity=1)
                return bool((await exchange.order(sent)).status == "filled")

            await eventually(filled)

            def quoted(symbol: str = symbol, before: int = before) -> bool:
                return bool(exchange.quote(symbol).position_version == before + 1)

            await eventually(quoted)
            assert ledger.position(symbol).position_version == before + 1


@asynccontextmanager
async def running_system(broker: Broker, folder: Path) -> AsyncIterator[System]:
    async with AsyncExitStack() as exits:
        found = System(broker, folder, exits)
        for kind in KINDS:
            found.members[kind] = await found.start(kind, kind)
        yield found


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@contextmanager
def answered_before(forger: Forger, raw: Raw, members: Iterable[Member]) -> Iterator[None]:
    """Have a forged reply arrive before every request that these services send."""
    publish, connections = Connection.publish, [member.connection for member in members]

    async def ask(
        self: Connection, subject: str, payload: bytes, *, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        if reply and self in connections and (forged := forger.answer(self, reply)) is not None:
            await raw.publish(forged)
        await publish(self, subject, payload, reply=reply, headers=headers)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "publish", ask)
        yield


async def test_services_continue_as_before_whatever_arrives_on_their_subscriptions(
    broker: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forger = Forger(SEED)
    sent: dict[str, int] = {}
    odd, garbled = _odd(), INVALID_REPLY._value.get()
    async with running_system(broker, tmp_path) as system, Raw(broker.url) as raw:
        await system.trades(0)
        links = {kind: member.connection._link for kind, member in system.members.items()}
        for round_ in range(1, ROUNDS + 1):
            for kind, member in system.members.items():
                for message in forger.forged(member.connection, EACH):
                    sent[kind] = sent.get(kind, 0) + 1
                    await raw.publish(message)
            if round_ % 2:
                with answered_before(forger, raw, system.members.values()):
                    await system.trades(round_)
            await system.all_fine()
        await system.trades(ROUNDS + 1)
        await system.all_fine()
        assert {kind: member.connection._link for kind, member in system.members.items()} == links, "a link was lost"
        await _matches_new_instances(system)
        assert all(member.health.report().quarantined for member in system.members.values())
    with capsys.disabled():
        counted = {what: count - odd.get(what, 0) for what, count in _odd().items()}
        sys.stdout.write(f"\nforged: {forger.made}\nsent: {sent}\ncounted: {counted}\n")
    assert INVALID_REPLY._value.get() > garbled
    assert all(counted[what] for what in ("subject", "headers", "delivery", "reply", "presence", "answer")), counted


async def _matches_new_instances(system: System) -> None:
    """Wait until the services have the same state as new instances, which read the logs from the start."""
    old = {kind: system.members[kind].service for kind in KINDS}
    new = {kind: (await system.start(kind, f"{kind}-2")).service for kind in ("exchange", "exposure", "ledger")}

    def state(services: dict[str, Any]) -> object:
        symbols = system.market.symbols
        quotes = [services["exchange"]._lane(symbol).market.quote() for symbol in symbols]
        return quotes, [services["ledger"].position(symbol) for symbol in symbols], services["exposure"].exposure()

    await eventually(lambda: state(old) == state(new))


def _odd() -> dict[str, float]:
    return {
        sample.labels["what"]: sample.value
        for metric in UNEXPECTED.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    }
