"""No maker quotes a symbol whose loss has reached its limit, until a person resumes it."""

from decimal import Decimal

import pytest

from jet import loss_log
from maker import plan
from maker.plan import Memory, View, Wait, Withdraw
from support.builders import NOW, quote_activated
from support.maker import Marketplace, quoting
from support.waiting import eventually
from wire.losses import Scope
from wire.market import SymbolMarket
from wire.switches import LossPaused, LossResumed

WHY = LossPaused(at=NOW, loss=Decimal(10), max_loss=Decimal(10))
RESUMED = LossResumed(at=NOW, acknowledged=Decimal(10))


async def write(place: Marketplace, scope: Scope, value: LossPaused | LossResumed) -> None:
    head = (await loss_log.read(place.broker.connection)).of(scope).head
    await loss_log.append(place.broker.connection, scope, value, head)


@pytest.mark.parametrize(("scope", "lost"), [("AAA", {"AAA"}), (None, {"AAA", "BBB"})])
async def test_a_loss_pause_withdraws_the_quote_and_outlives_restarts_until_a_resume(
    place: Marketplace, scope: Scope, lost: set[str]
) -> None:
    await place.open()
    running = await quoting(place)
    await write(place, scope, WHY)
    for symbol in lost:
        await eventually(lambda symbol=symbol: running.on(symbol).state == "loss_paused")  # type: ignore[misc] # binds
    assert {symbol for symbol in ("AAA", "BBB") if place.quote(symbol) is None} == lost
    assert running.on("AAA").loss == WHY
    await running.crash()

    again = await place.start_maker()
    await place.move("AAA", 1)
    await eventually(lambda: again.on("AAA").position_version == 1 and again.on("AAA").state == "loss_paused")
    assert place.quote("AAA") is None

    await write(place, scope, RESUMED)
    await place.quoted("AAA", "AAA-v1-a1")
    assert again.on("AAA").loss is None


async def test_a_symbols_loss_pause_outlasts_the_pause_of_all_symbols(place: Marketplace) -> None:
    await place.open()
    await write(place, "AAA", WHY)
    await write(place, None, WHY)
    running = await place.start_maker()
    await eventually(lambda: {running.on(symbol).state for symbol in ("AAA", "BBB")} == {"loss_paused"})
    await write(place, None, RESUMED)
    await place.quoted("BBB", "BBB-v0-a1")
    assert (running.on("AAA").state, place.quote("AAA")) == ("loss_paused", None)


@pytest.mark.parametrize("current", [True, False])
@pytest.mark.parametrize("quote_id", ["AAA-v0-a1", "by-hand"])
def test_a_loss_pause_withdraws_the_live_quote_whoever_made_it(quote_id: str, *, current: bool) -> None:
    """Even while it is not known what would be quoted otherwise."""
    market = SymbolMarket("AAA")
    market.apply_quote(1, quote_activated(quote_id=quote_id))
    view = View(market, current=current, market_current=True, loss_pause=WHY)
    assert plan.due(view, Memory(), NOW) == Withdraw(quote_id)
    assert plan.due(view, Memory(withdrawn_id=quote_id), NOW) == Wait("loss_paused")
