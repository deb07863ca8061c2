"""Whatever arrives on whatever a service listens to: every service goes on, and does afterwards what it did before.

`QS_FUZZ_EXAMPLES` times two rounds of what `support.forger` makes, for every subscription of every service; with
`QS_FUZZ_SEED`, from another seed on.
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
    """A service that runs."""

    service: Any
    health: Health
    connection: Connection
    task: "asyncio.Task[None]"

    @property
    def fine(self) -> bool:
        """Whether it is ready. Fails if it has ended, and says what it waits for."""
        if self.task.done():
            self.task.result()
            raise AssertionError("it has ended")
        assert self.health.ready, self.health.report()
        return True


class House:
    """One of each service, on one broker."""

    def __init__(self, broker: Broker, folder: Path, exits: AsyncExitStack) -> None:
        self.broker = broker
        self.market: Market = replace(broker.market, quote_ttl=30.0)
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
        """An order fills on a quote, its position is committed and shown, and it is quoted from there."""
        exchange, ledger = self.members["exchange"].service, self.members["ledger"].service
        for symbol in self.market.symbols:
            before = ledger.position(symbol).position_version

            async def filled(symbol: str = symbol) -> bool:
                asked = order(order_id=f"{symbol}-order-{number}", symbol=symbol, quantity=1)
                return bool((await exchange.order(asked)).status == "filled")

            await eventually(filled)

            def quoted(symbol: str = symbol, before: int = before) -> bool:
                return bool(exchange.quote(symbol).position_version == before + 1)

            await eventually(quoted)
            assert ledger.position(symbol).position_version == before + 1


@asynccontextmanager
async def house(broker: Broker, folder: Path) -> AsyncIterator[House]:
    async with AsyncExitStack() as exits:
        found = House(broker, folder, exits)
        for kind in KINDS:
            found.members[kind] = await found.start(kind, kind)
        yield found


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@contextmanager
def answered_before(forger: Forger, raw: Raw, members: Iterable[Member]) -> Iterator[None]:
    """Something comes to where these services await an answer, before they have asked."""
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


async def test_whatever_arrives_on_whatever_they_listen_to_they_go_on_as_before(
    broker: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forger = Forger(SEED)
    heard: dict[str, int] = {}
    odd, garbled = _odd(), INVALID_REPLY._value.get()
    async with house(broker, tmp_path) as home, Raw(broker.url) as raw:
        await home.trades(0)
        links = {kind: member.connection._link for kind, member in home.members.items()}
        for round_ in range(1, ROUNDS + 1):
            for kind, member in home.members.items():
                for message in forger.forged(member.connection, EACH):
                    heard[kind] = heard.get(kind, 0) + 1
                    await raw.publish(message)
            if round_ % 2:
                with answered_before(forger, raw, home.members.values()):
                    await home.trades(round_)
            await home.all_fine()
        await home.trades(ROUNDS + 1)
        await home.all_fine()
        assert {kind: member.connection._link for kind, member in home.members.items()} == links, "a link was lost"
        await _as_a_new_one_finds_it(home)
        assert all(member.health.report().quarantined for member in home.members.values())
    with capsys.disabled():
        counted = {what: count - odd.get(what, 0) for what, count in _odd().items()}
        sys.stdout.write(f"\nforged: {forger.made}\nheard: {heard}\ncounted: {counted}\n")
    assert INVALID_REPLY._value.get() > garbled
    assert all(counted[what] for what in ("subject", "headers", "delivery", "reply", "presence", "answer")), counted


async def _as_a_new_one_finds_it(home: House) -> None:
    """What each has in memory is what one finds that reads the logs from the start."""
    old = {kind: home.members[kind].service for kind in KINDS}
    new = {kind: (await home.start(kind, f"{kind}-2")).service for kind in ("exchange", "exposure", "ledger")}

    def told(services: dict[str, Any]) -> object:
        symbols = home.market.symbols
        quotes = [services["exchange"]._lane(symbol).market.quote() for symbol in symbols]
        return quotes, [services["ledger"].position(symbol) for symbol in symbols], services["exposure"].exposure()

    await eventually(lambda: told(old) == told(new))


def _odd() -> dict[str, float]:
    return {
        sample.labels["what"]: sample.value
        for metric in UNEXPECTED.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    }
