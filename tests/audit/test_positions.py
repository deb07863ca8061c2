"""I8 and I9, on logs, tables and published positions that were changed to break them."""

import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from audit.findings import Status, Verdict
from audit.ledger_database import LedgerDatabase
from audit.positions import AfterItsFills, Publications, SignedSum, read_publications
from jet import journal
from ledger.positions import Account
from support.audit import Script, busy, place_of, text_of
from support.broker import Broker
from support.builders import position_update
from wire import subjects
from wire.positions import PositionUpdate


class Published:
    """The updates that a ledger publishes for a script: one per fill, each a moment after the fill was stored."""

    def __init__(self) -> None:
        self.script = Script()
        self.found = Publications()
        self.updates: list[PositionUpdate] = []

    def trade(self, symbol: str = "AAA", side: str = "buy", quantity: int = 1, **changes: Any) -> None:
        """Add a fill, and the update after it, with changes."""
        fill = self.script.trade(symbol, side, quantity)
        account = Account(symbol, self.script.net[symbol], fill)
        self.updates.append(replace(account.update, **changes))

    def publish(self, *order: int, early: float = 0.0) -> None:
        """Publish the updates, in order or in the given one, `early` by some seconds."""
        for index in order or range(len(self.updates)):
            update = self.updates[index]
            time = self.script.now - timedelta(seconds=early)
            self.found.add(subjects.position(update.symbol), self.found.count + 1, time, update)

    def verdicts(self) -> tuple[Verdict, Verdict]:
        """The verdicts on I8 and I9."""
        return (
            self.script.verdict(SignedSum(self.found, [])),
            self.script.verdict(AfterItsFills(self.found)),
        )


@pytest.fixture
def published() -> Published:
    """Two symbols quoted, nothing traded."""
    found = Published()
    found.script.quote("AAA")
    found.script.quote("XXX")
    return found


def test_updates_that_agree_prove_both(published: Published) -> None:
    for side in ("buy", "sell", "sell"):
        published.trade("AAA", side, 2)
        published.trade("XXX", side, 3)
    published.publish()
    summed, ordered = published.verdicts()
    assert (summed.status, ordered.status) == (Status.PROVED, Status.PROVED)
    assert "6 published positions" in summed.checked
    assert "6 published positions" in ordered.checked


def test_conflated_updates_agree_as_well(published: Published) -> None:
    for _ in range(5):
        published.trade()
    published.publish(1, 4)
    assert [verdict.status for verdict in published.verdicts()] == [Status.PROVED, Status.PROVED]


def test_a_published_position_that_is_not_the_sum_is_found(published: Published) -> None:
    published.trade("AAA", "buy", 2)
    published.trade("AAA", "buy", 3, net_quantity=5)
    published.publish()
    verdict, _ = published.verdicts()
    assert verdict.status is Status.REFUTED
    assert "POSITIONS #2 positions.AAA" in text_of(verdict)
    assert "position 2 of AAA is published as 5, its fills sum to -5" in text_of(verdict)


def test_a_published_last_fill_that_differs_is_found(published: Published) -> None:
    published.trade(last_fill_id="AAA-f9")
    published.publish()
    assert "is published with another last fill than AAA-f1 as logged" in text_of(published.verdicts()[0])


def test_a_position_before_any_fill_is_found(published: Published) -> None:
    published.updates.append(PositionUpdate(symbol="AAA", net_quantity=0, position_version=0))
    published.updates.append(PositionUpdate(symbol="XXX", net_quantity=3, position_version=0))
    published.publish()
    verdict, _ = published.verdicts()
    assert verdict.contradictions == 1
    assert "position 0 of XXX is published as 3, before any fill" in text_of(verdict)


def test_versions_that_go_back_are_found(published: Published) -> None:
    for _ in range(3):
        published.trade()
    published.publish(0, 2, 1)
    _, verdict = published.verdicts()
    assert verdict.status is Status.REFUTED
    assert "POSITIONS #3 positions.AAA" in text_of(verdict)
    assert "position 2 of AAA is published after position 3" in text_of(verdict)


def test_a_version_published_twice_is_found(published: Published) -> None:
    published.trade()
    published.publish(0, 0)
    assert "position 1 of AAA is published after position 1" in text_of(published.verdicts()[1])


def test_an_update_before_its_fill_is_stored_is_found(published: Published) -> None:
    published.trade()
    published.publish(early=0.5)
    _, verdict = published.verdicts()
    assert verdict.status is Status.REFUTED
    assert "position 1 of AAA is published 0.499 s before its fill is stored, as MARKET-1 #2" in text_of(verdict)


def test_an_update_of_a_fill_that_is_not_in_the_log_is_found(published: Published) -> None:
    published.trade()
    published.publish()
    published.script.messages.pop()
    assert "position 1 of AAA is published, but the log has 0 fills of AAA" in text_of(published.verdicts()[1])


def test_an_invalid_update_is_found(published: Published) -> None:
    published.found.unreadable.append((7, "positions.AAA", "cannot be read: it is cut off"))
    assert "POSITIONS #7 positions.AAA {} the message cannot be read" in text_of(published.verdicts()[1])


# --- the numbers of the log -----------------------------------------------------------------------------------------


def summed(script: Script) -> Verdict:
    """The verdict on the log alone."""
    return script.verdict(SignedSum(Publications(), []))


def test_a_number_that_is_skipped_is_found() -> None:
    script = Script()
    script.quote()
    script.trade()
    script.trade(number=3, fill_id="AAA-f3")
    verdict = summed(script)
    assert verdict.status is Status.REFUTED
    assert place_of(script) in text_of(verdict)
    assert "AAA-f3 skips to number 3 of AAA, where 2 is next" in text_of(verdict)


def test_a_number_that_is_repeated_is_found() -> None:
    script = Script()
    script.quote()
    script.trade()
    script.trade(number=1, fill_id="AAA-f1")
    assert "AAA-f1 repeats number 1 of AAA, where 2 is next" in text_of(summed(script))


def test_numbers_within_a_message_must_be_consecutive_too() -> None:
    script = Script()
    script.quote()
    script.append(script.fill(), script.fill(number=3))
    assert summed(script).contradictions == 1


def test_a_sound_log_is_proved_with_the_remark_that_no_table_was_compared() -> None:
    verdict = summed(busy())
    assert verdict.status is Status.PROVED
    assert "no table of positions is checked" in verdict.remarks[0]


# --- the ledger's table ---------------------------------------------------------------------------------------------


async def in_table(script: Script, path: Path, *changes: str, but_last: int = 0) -> Verdict:
    """The verdict with the table of a ledger that has applied the log, after some SQL was run on it."""
    (await script.ledger(path, but_last=but_last)).__exit__(None, None, None)
    with sqlite3.connect(path) as database:
        for statement in changes:
            database.execute(statement)
    database.close()
    with LedgerDatabase(path) as ledger:
        return script.verdict(SignedSum(Publications(), [ledger]))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the database."""
    return tmp_path / "ledger.sqlite"


async def test_a_table_that_agrees_proves_it(path: Path) -> None:
    verdict = await in_table(busy(), path)
    assert verdict.status is Status.PROVED, text_of(verdict)
    assert "2 positions in ledger.sqlite" in verdict.checked


async def test_a_table_that_lags_is_compared_up_to_what_it_has_applied(path: Path) -> None:
    assert (await in_table(busy(), path, but_last=3)).status is Status.PROVED


async def test_a_net_quantity_that_is_not_the_sum_is_found(path: Path) -> None:
    wrong = "UPDATE positions SET net_quantity = net_quantity + 1 WHERE symbol = 'XXX'"
    verdict = await in_table(busy(), path, wrong)
    assert verdict.status is Status.REFUTED
    assert "the position of XXX is 4 at version 3; the applied part of the log leads to 3 at version 3" in text_of(
        verdict
    )
    assert "its own table of fills leads to 3 at version 3" in text_of(verdict)


async def test_a_version_that_is_not_the_last_number_is_found(path: Path) -> None:
    verdict = await in_table(busy(), path, "UPDATE positions SET position_version = 2 WHERE symbol = 'XXX'")
    assert "at version 2; the applied part of the log leads to 3 at version 3" in text_of(verdict)


async def test_a_last_fill_that_differs_is_found(path: Path) -> None:
    verdict = await in_table(busy(), path, "UPDATE positions SET last_fill_id = 'XXX-f1' WHERE symbol = 'XXX'")
    assert "the position of XXX has XXX-f1 of" in text_of(verdict)
    assert "the log XXX-f3" in text_of(verdict)


async def test_a_position_that_is_missing_is_found(path: Path) -> None:
    verdict = await in_table(busy(), path, "DELETE FROM positions WHERE symbol = 'XXX'")
    assert "the position of XXX is missing; the applied part of the log leads to 3 at version 3" in text_of(verdict)


async def test_a_position_of_an_unknown_symbol_is_found(path: Path) -> None:
    verdict = await in_table(
        busy(),
        path,
        "INSERT INTO positions VALUES ('ZZZ', 5, 1, 'ZZZ-f1', '2026-01-05T09:30:00Z', '0', '0', '0', 0, 0, 0)",
    )
    assert "the position of ZZZ is 5 at version 1; the applied part of the log leads to 0 at version 0" in text_of(
        verdict
    )


async def test_published_positions_are_read_and_invalid_ones_noted(broker: Broker) -> None:
    update = position_update(position_version=3, net_quantity=5)
    for payload in (msgspec.json.encode(update), b"{}"):
        await journal.put(broker.connection, subjects.POSITIONS_STREAM, "positions.AAA", payload)
    await journal.put(broker.connection, subjects.POSITIONS_STREAM, "positions.XXX", msgspec.json.encode(update))
    found = await read_publications(broker.connection)
    assert found.count == 1
    assert [(each.version, each.net) for each in found.by_symbol["AAA"]] == [(3, 5)]
    assert [(sequence, subject) for sequence, subject, _ in found.unreadable] == [
        (2, "positions.AAA"),
        (3, "positions.XXX"),
    ]
