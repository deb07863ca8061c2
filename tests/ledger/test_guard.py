"""A ledger pauses symbols whose loss has reached its limit, and only a person resumes them."""

from decimal import Decimal
from typing import Any

import pytest

from jet import api, loss_log
from jet.connection import Connection
from ledger.service import Ledger
from support.broker import Broker
from support.builders import NOW, recorded_fill
from support.definitions import redefine, seed
from support.ledger import Log, Start
from support.waiting import eventually
from wire import subjects
from wire.losses import Latch
from wire.switches import LossPaused, LossResumed


async def latch(connection: Connection, symbol: str = "AAA") -> Latch:
    return (await loss_log.read(connection)).of(symbol)


async def paused(connection: Connection, symbol: str = "AAA") -> LossPaused:
    """Wait until the symbol is paused, and return why."""

    async def why() -> LossPaused | None:
        return (await latch(connection, symbol)).paused

    return await eventually(why)


def bought(number: int = 1, **changes: Any) -> Any:
    """Return a fill of ten lots that the makers bought at one above the reference price."""
    return recorded_fill(number=number, **({"side": "sell", "quantity": 10, "price": Decimal("101.00")} | changes))


@pytest.fixture
async def defined(broker: Broker) -> Connection:
    """A market in which AAA may lose 10."""
    await seed(broker.connection, broker.market)
    await redefine(broker.connection, "AAA", max_loss=Decimal(10))
    return broker.connection


async def test_a_symbol_is_paused_once_for_its_loss_and_stays_paused(
    defined: Connection, market_log: Log, start: Start
) -> None:
    running = await start()
    await market_log.fills(bought())
    why = await paused(defined)
    assert (why.loss, why.max_loss, why.position_version, why.mark) == (10, 10, 1, 100)
    (notice,) = [each for each in running.health.report().notices if each.name == "AAA"]
    assert "its loss of 10 reached 10" in notice.reason
    head = (await latch(defined)).head

    await market_log.fills(bought(2, side="buy", price=Decimal("150.00")))  # a profit of 490 on balance
    await market_log.published_version(2)
    await running.stop()
    again = await start()
    await eventually(lambda: again.ledger._guard._log.current)
    assert (await latch(defined)) == Latch(head, why)


async def test_after_a_resume_the_limit_applies_to_the_loss_beyond_the_acknowledged_one(
    defined: Connection, market_log: Log, start: Start
) -> None:
    running = await start()
    await market_log.fills(bought())
    await paused(defined)
    head = (await latch(defined)).head
    resumed = LossResumed(at=NOW, acknowledged=Decimal(10))
    await loss_log.append(defined, "AAA", resumed, head, "somebody")
    await eventually(lambda: not running.ledger._guard._log.latches.paused)
    await market_log.fills(bought(2, quantity=5, price=Decimal("101.00")))
    await market_log.published_version(2)
    assert (await latch(defined)).paused is None, "15 are lost, 10 of which were acknowledged"
    await redefine(defined, "AAA", reference_price=Decimal("99.60"))
    assert (await paused(defined)).loss == 21


async def test_a_ledger_that_catches_up_does_not_judge_past_positions(
    defined: Connection, market_log: Log, start: Start
) -> None:
    """A temporary loss before the start is no reason for a pause."""
    await market_log.fills(bought(1, price=Decimal("200.00")))
    await market_log.fills(bought(2, side="buy", price=Decimal("200.00")))
    running = await start()
    await eventually(lambda: running.version() == 2 and not guard(running.ledger)._woken.is_set())
    assert (await latch(defined)).paused is None


async def test_two_ledgers_write_one_pause(defined: Connection, market_log: Log, start: Start) -> None:
    first, second = await start(), await start("second.sqlite")
    await market_log.fills(bought())
    await paused(defined)
    for each in (first, second):
        await eventually(lambda each=each: "AAA" in each.ledger._guard._log.latches.paused)  # type: ignore[misc] # binds
        await eventually(lambda each=each: not guard(each.ledger)._woken.is_set())  # type: ignore[misc] # binds
    key = subjects.loss_key("AAA", paused=True)
    assert (await api.stream_details(defined, loss_log.STREAM, key)).state.subjects == {key: 1}


def guard(ledger: Ledger) -> Any:
    return ledger._guard
