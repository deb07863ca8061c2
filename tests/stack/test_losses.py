"""`./qs resume` acknowledges the current loss of what is paused, and nothing else."""

from collections.abc import Iterator
from decimal import Decimal

import msgspec
import pytest

from jet import journal, loss_log
from jet.journal import Compare
from process.settings import Market
from stack import losses
from support.builders import NOW, instrument, position_update
from support.definitions import seed
from support.secured import Server, serving
from wire import subjects
from wire.losses import Latch, Scope
from wire.switches import LossPaused

WHY = LossPaused(at=NOW, loss=Decimal(20), max_loss=Decimal(10))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("losses")) as found:
        yield found


async def latch(server: Server, scope: Scope) -> Latch:
    async with server.connection("auditor") as auditor:
        return (await loss_log.read(auditor)).of(scope)


async def test_pauses_are_listed_and_lifted_at_the_current_loss(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = server.settings
    async with server.connection("ledger") as ledger, server.connection("operator") as operator:
        assert await losses.resume(settings, []) == 0
        assert capsys.readouterr().out.endswith("nothing is paused for a loss\n")
        assert await losses.resume(settings, ["AAA"]) == 2
        assert "AAA is not defined\n" in capsys.readouterr().err

        market = Market(symbols={"AAA": instrument(), "BBB": instrument()}, shards=1)
        await seed(operator, market)
        for scope in ("AAA", "BBB", None):
            await loss_log.append(ledger, scope, WHY, 0)
        for symbol, cash in (("AAA", "-1005"), ("BBB", "-920")):  # a loss of 5, and a profit of 80
            value = msgspec.json.encode(
                position_update(symbol, net_quantity=10, position_version=1, cash=Decimal(cash), multiplier=Decimal(1))
            )
            subject = subjects.position(symbol)
            await journal.append(ledger, "POSITIONS", subject, value, msg_id=symbol, compare=Compare(0, subject))

        assert await losses.resume(settings, []) == 0
        shown = capsys.readouterr().out
        assert "AAA: paused since 2026-01-05 09:30:00 UTC: its loss of 20 reached 10; " in shown
        assert "all symbols: paused since" in shown

        assert await losses.resume(settings, ["AAA", "BBB"]) == 0
        shown = capsys.readouterr().out
        assert "AAA: resumed at a loss of 5" in shown
        assert "BBB: resumed at a loss of -80" in shown
        assert "all symbols: paused since" in shown
        assert (await latch(server, "AAA"))[1:] == (None, 5)
        assert (await latch(server, "BBB"))[1:] == (None, 0), "a profit is not acknowledged"
        assert (await latch(server, None)).paused == WHY

        assert await losses.resume(settings, ["AAA", None]) == 0
        shown = capsys.readouterr().out
        assert "AAA: not paused for a loss" in shown
        assert "all symbols: resumed at a loss of -75" in shown
        assert shown.endswith("nothing is paused for a loss\n")
