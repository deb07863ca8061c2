"""Finding a quote on a real broker."""

from pathlib import Path

import msgspec
import pytest

from jet import journal
from recorded.explain import UnknownQuote, explain
from recorded.story import Story
from support.audit import LIMIT, SYMBOLS, Script
from support.broker import Broker
from support.builders import NOW, market
from support.recorded import Store
from wire import subjects
from wire.reservations import ReservationRecord

MARKET = market(symbols=SYMBOLS, limit=LIMIT)


async def story(broker: Broker, quote_id: str, logs: Path = Path("nowhere")) -> Story:
    """Find the story of a quote."""
    return await explain(broker.connection, MARKET, logs, quote_id)


async def keep(broker: Broker, record: ReservationRecord) -> None:
    """Put a reservation into exposure's log."""
    payload = msgspec.json.encode([record])
    await journal.put(broker.connection, subjects.EXPOSURE_STREAM, subjects.DECISIONS, payload)


def record(quote_id: str, reservation_id: str) -> ReservationRecord:
    """A reservation."""
    return ReservationRecord(
        reservation_id=reservation_id,
        quote_id=quote_id,
        symbol="XXX",
        reserved_bid_quantity=5,
        reserved_ask_quantity=5,
        state="active",
        granted_at=NOW,
        activated_at=None,
        expires_at=NOW,
        outcome="granted",
        asked_bid_quantity=5,
        asked_ask_quantity=5,
        granted_bid_quantity=5,
        granted_ask_quantity=5,
    )


async def test_a_makers_quote_is_found_with_its_fills_and_its_reservation(broker: Broker, store: Store) -> None:
    script = Script()
    script.quote("XXX")
    script.trade("XXX")
    script.quote("AAA")
    script.quote("XXX")
    fill = script.trade("XXX")
    await store(script)
    await keep(broker, record("XXX-v1-a1", "XXX-v1-a1-r"))
    found = await story(broker, "XXX-v1-a1")
    assert [execution.fill for execution in found.fills] == [fill.fill]
    assert found.basis is not None
    assert found.basis.net_quantity == -1
    assert found.reservation is not None
    assert found.reservation.reserved_bid_quantity == 5


@pytest.mark.parametrize("quote_id", ["by-hand", "by-hand-v2-a3", "AAA-v7-a1"])
async def test_any_id_is_found_in_any_shard(broker: Broker, store: Store, quote_id: str) -> None:
    script = Script()
    script.quote("AAA")
    script.quote("XXX", quote_id=quote_id, reservation_id="some-r")
    await store(script)
    await keep(broker, record(quote_id, "some-r"))
    found = await story(broker, quote_id)
    assert found.activated is not None
    assert found.activated.symbol == "XXX"
    assert found.reservation is not None


async def test_a_quote_that_never_became_active_is_found_by_its_reservation(broker: Broker) -> None:
    await keep(broker, record("XXX-v0-a1", "XXX-v0-a1-r"))
    found = await story(broker, "XXX-v0-a1")
    assert found.activated is None
    assert found.reservation is not None


async def test_a_quote_that_never_became_active_is_found_in_the_log_files(broker: Broker, tmp_path: Path) -> None:
    line = '{"quote_id":"XXX-v0-a1","reason":"bid_limit","event":"rejected","time":"2026-01-05T09:30:00Z"}\n'
    (tmp_path / "exposure.log").write_text(line)
    found = await story(broker, "XXX-v0-a1", tmp_path)
    assert [(logged.event, logged.fields) for logged in found.logs] == [("rejected", {"reason": "bid_limit"})]


async def test_an_unknown_quote_is_refused(broker: Broker, store: Store, tmp_path: Path) -> None:
    script = Script()
    script.quote("XXX")
    await store(script)
    with pytest.raises(UnknownQuote, match="no quote XXX-v0-a2: it was never active"):
        await story(broker, "XXX-v0-a2", tmp_path)
