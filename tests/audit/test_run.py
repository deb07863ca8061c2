"""Whole audits, on a real broker."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from audit.epochs import always
from audit.findings import Status
from audit.report import Report
from audit.run import Sources, audit
from jet import journal
from loadgen.history import History
from loadgen.outcomes import Known
from process.clock import utc_now
from recorded.streams import CannotRead
from stack.record import Epoch
from support.audit import LIMIT, SYMBOLS, Script
from support.broker import Broker
from support.builders import market, order, position_update
from support.ledger import ledgers
from support.maker import Marketplace, marketplace
from support.recorded import Store
from support.waiting import eventually
from wire import subjects

MARKET = market(symbols=SYMBOLS, quote_ttl=30.0, limit=LIMIT)


async def audited(
    broker: Broker,
    folder: Path,
    *,
    databases: Sequence[Path] = (),
    histories: Sequence[Path] = (),
    recorded: Sequence[Epoch] = (),
    **changes: Any,
) -> Report:
    """Audit a broker, and return the report."""
    settings = msgspec.structs.replace(MARKET, **changes)
    sources = Sources(broker.url, settings, folder / "logs", databases, histories, recorded or always(settings))
    return await audit(broker.connection, sources, lambda *_: None)


def refuted(report: Report) -> dict[str, list[str]]:
    """The findings of each refuted invariant: where and why."""
    return {
        verdict.code: [f"{f.source} #{f.sequence} {f.subject}: {f.detail}" for f in verdict.findings]
        for verdict in report.refuted
    }


def live() -> Script:
    """A script that begins now."""
    script = Script()
    script.now = utc_now()
    return script


def two_sided(place: Marketplace, symbol: str) -> bool:
    """True if both sides of a symbol's quote have a remaining quantity."""
    quote = place.quote(symbol)
    return quote is not None and bool(quote.remaining_bid_quantity and quote.remaining_ask_quantity)


async def test_a_system_of_real_services_is_proved(broker: Broker, tmp_path: Path) -> None:
    """Exchange, exposure, ledger and maker trade for a moment; clients' answers are kept in a history."""
    history = tmp_path / "history.jsonl"
    async with marketplace(broker) as place, ledgers(broker, tmp_path) as start:
        await place.open()
        ledger = await start()
        await place.start_maker()
        with History(history) as kept:
            for number in range(40):
                symbol, side = "AAA" if number % 2 else "BBB", "buy" if number % 3 else "sell"
                await eventually(partial(two_sided, place, symbol))
                limit = Decimal("200.00" if side == "buy" else "1.00")
                sent = order(symbol=symbol, side=side, quantity=4, limit_price=limit)
                kept.sent(sent, 1)
                result = await place.exchange.order(sent)
                kept.answered(sent.order_id, 1, Known(200, msgspec.json.encode(result), result))
        await eventually(lambda: ledger.version("AAA") + ledger.version("BBB") >= 30)
        report = await audited(
            broker,
            tmp_path,
            databases=[tmp_path / "ledger.sqlite"],
            histories=[history],
            symbols=broker.market.symbols,
        )
    assert refuted(report) == {}
    codes = [verdict.code for verdict in report.verdicts]
    assert codes == ["log", "I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10", "I12", "I13", "link"]
    uncertain = {verdict.code for verdict in report.verdicts if verdict.status is not Status.PROVED}
    assert uncertain <= {"I3"}
    assert report.totals.fills >= 30
    assert "fills and" in next(verdict.checked for verdict in report.verdicts if verdict.code == "I7")


@pytest.mark.parametrize("skew", [0.02, 0.9])
async def test_two_exchanges_whose_clocks_differ_as_much_as_they_may_are_proved(
    broker: Broker, tmp_path: Path, skew: float
) -> None:
    """One exchange is ahead of the broker's clock, one lags it, and so do two exposure services."""
    ahead, behind = (partial(_off, timedelta(seconds=by)) for by in (skew, -skew))
    async with marketplace(broker) as place, ledgers(broker, tmp_path) as start:
        place.market = msgspec.structs.replace(place.market, grace=2.0)
        await place.start_exposure(ahead)
        await place.start_exposure(behind)
        exchanges = [await place.start_exchange(clock) for clock in (ahead, behind)]
        ledger = await start()
        await place.start_maker()
        for number in range(60):
            await eventually(partial(two_sided, place, "AAA"))
            side, limit = ("buy", Decimal("200.00")) if number % 2 else ("sell", Decimal("1.00"))
            await exchanges[number % 3 % 2].order(order(symbol="AAA", side=side, quantity=9, limit_price=limit))
        await eventually(lambda: ledger.version("AAA") >= 30)
        symbols = broker.market.symbols
        databases = [tmp_path / "ledger.sqlite"]
        report = await audited(broker, tmp_path, databases=databases, symbols=symbols, grace=2.0)
    assert refuted(report) == {}


def _off(by: timedelta) -> datetime:
    return utc_now() + by


async def test_a_sound_log_is_proved_even_without_anything_else(broker: Broker, store: Store, tmp_path: Path) -> None:
    script = live()
    script.quote("AAA")
    script.trade("AAA", "buy", 3)
    script.withdraw("AAA")
    await store(script)
    report = await audited(broker, tmp_path)
    assert refuted(report) == {}
    assert report.totals.positions == {"AAA": -3}
    assert report.streams == {"MARKET-0": 0, "MARKET-1": 3}


async def test_a_doctored_log_is_refuted_message_by_message(broker: Broker, store: Store, tmp_path: Path) -> None:
    script = live()
    first = script.quote("AAA", bid_quantity=60, ask_quantity=60, reservation_id="x", quote_id="first")
    script.quote("XXX", bid_quantity=60, ask_quantity=60, reservation_id="y", quote_id="second")
    script.trade("AAA", "buy", 70, remaining_ask_quantity=0)
    script.trade("XXX", "buy", 1, order_id="order-1", price=first.bid_price)
    script.quote("AAA", attempt=1, position_version=0, quote_id="third", reservation_id="z")
    script.withdraw("AAA", quote_id="first")
    script.trade("XXX", "buy", 1, number=9)
    script.raw("fills.0.XXX", b"nonsense")
    await store(script)
    found = refuted(await audited(broker, tmp_path))
    assert {code: len(findings) for code, findings in found.items()} == {
        "log": 1,
        "I1": 1,
        "I2": 1,
        "I3": 1,
        "I4": 1,
        "I5": 1,
        "I6": 1,
        "I8": 1,
        "I10": 1,
    }
    (over,) = found["I2"]
    assert over.startswith(
        "MARKET-0 #1 quotes.0.XXX: with second, 120 lots of bid and 120 lots of ask are active at once"
    )
    assert over.endswith("bid/ask: first 60/60, second 60/60")
    assert found["I5"] == ["MARKET-1 #2 fills.1.AAA: with AAA-f1, 70 lots of first's ask have executed; it has 60"]
    assert "XXX-f1: executed a buy at" in found["I4"][0]
    assert found["I6"][0].startswith("MARKET-0 #2 fills.0.XXX: order order-1 executes again, as XXX-f1")
    assert "second is active, but y is not in exposure's log" in found["I3"][0]
    assert "first is withdrawn, but the active quote is third" in found["I1"][0]
    assert "XXX-f2 skips to number 9" in found["I8"][0]
    assert "third of version 0, attempt 1 replaces first of version 0, attempt 1" in found["I10"][0]
    assert "MARKET-0 #4 fills.0.XXX: the message cannot be read" in found["log"][0]


async def test_positions_published_too_early_are_refuted(broker: Broker, store: Store, tmp_path: Path) -> None:
    payload = msgspec.json.encode(position_update(position_version=1, net_quantity=-1))
    await journal.put(broker.connection, subjects.POSITIONS_STREAM, "positions.AAA", payload)
    script = live()
    script.quote("AAA")
    script.trade("AAA")
    script.withdraw("AAA")
    await store(script)
    found = refuted(await audited(broker, tmp_path))
    assert list(found) == ["I8", "I9"]
    assert "POSITIONS #1 positions.AAA: position 1 of AAA is published" in found["I9"][0]


async def test_a_log_that_lost_what_the_ledger_applied_is_refuted(broker: Broker, store: Store, tmp_path: Path) -> None:
    script = live()
    script.quote("AAA")
    script.trade("AAA")
    script.withdraw("AAA")
    await store(script)
    script.trade("AAA")
    (await script.ledger(tmp_path / "ledger.sqlite")).__exit__(None, None, None)
    found = refuted(await audited(broker, tmp_path, databases=[tmp_path / "ledger.sqlite"]))
    assert found["log"] == ["MARKET-1 #3 : it ends at 3, but ledger.sqlite has applied it up to 4"]
    assert "AAA-f2, number 2 of AAA, is applied, but not in the log" in found["I7"][0]


async def test_a_history_that_cannot_be_read_is_found(broker: Broker, tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text("nonsense\n")
    with pytest.raises(CannotRead, match=r"the history .*history.jsonl cannot be read"):
        await audited(broker, tmp_path, histories=[path])


async def test_a_database_that_is_not_there_is_found(broker: Broker, tmp_path: Path) -> None:
    with pytest.raises(CannotRead, match="there is no ledger database"):
        await audited(broker, tmp_path, databases=[tmp_path / "none.sqlite"])
