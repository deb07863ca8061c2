"""`./qs market apply` and `./qs symbol` overwrite nothing that somebody else has defined meanwhile."""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from jet import definition_log, journal
from jet.connection import Connection
from jet.listings import Listings
from process.health import Health
from stack import instruments, prepare
from stack.programs import REFUSED
from support.definitions import redefine, seed
from support.secured import Server, serving
from support.waiting import eventually
from wire import subjects
from wire.instruments import Instrument
from wire.references import REFERENCES


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("instruments")) as found:
        yield found


async def defined(operator: Connection) -> Instrument:
    listing = (await definition_log.read(operator)).listing("AAA")
    assert listing is not None
    return listing.instrument


async def test_a_definition_made_after_the_diff_is_not_overwritten(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = server.settings
    async with server.connection("operator") as operator:
        await seed(operator, settings.market)
        await redefine(operator, "AAA", quote_size=7)
        assert await instruments.diff(settings) == 1
        found = re.search(r"--revision (\d+)`", capsys.readouterr().out)
        assert found is not None
        await redefine(operator, "AAA", min_spread=3)
        assert await instruments.apply(settings, int(found[1])) == 2
        assert "something was defined since" in capsys.readouterr().err
        assert ((await defined(operator)).quote_size, (await defined(operator)).min_spread) == (7, 3)

        assert await instruments.set_symbol(settings, "AAA", ["reference_price=101.00"]) == 0
        assert "\n1 key defined\n" in capsys.readouterr().out
        changed = await defined(operator)
        assert (changed.reference_price, changed.quote_size, changed.min_spread) == (Decimal("101.00"), 7, 3)

        assert await instruments.apply(settings, 10_000) == 2
        assert "was never 10000" in capsys.readouterr().err
        assert await instruments.apply(settings) == 0
        assert "AAA: min_spread 3 → 0\n" in capsys.readouterr().out
        assert await defined(operator) == settings.market.symbols["AAA"]


@pytest.mark.parametrize("meanwhile", ["before anything is written", "between two definitions"])
async def test_a_definition_made_during_apply_is_not_overwritten(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    settings = server.settings
    market = msgspec.structs.replace(settings.market, limit=77)
    other = replace(settings, market=market)
    append = journal.append
    appended: list[str] = []

    async with server.connection("operator") as operator:
        await instruments.apply(settings)
        await redefine(operator, "AAA", quote_size=7)
        revision = (await definition_log.read(operator)).latest_revision

        async def after_somebody(connection: Connection, stream: str, subject: str, *more: Any, **named: Any) -> Any:
            appended.append(subject)
            if len(appended) == (1 if meanwhile == "before anything is written" else 2):
                monkeypatch.setattr(journal, "append", append)
                await redefine(operator, "AAA", min_spread=3)
            return await append(connection, stream, subject, *more, **named)

        monkeypatch.setattr(journal, "append", after_somebody)
        capsys.readouterr()
        nothing = meanwhile == "before anything is written"
        assert await instruments.apply(other) == (2 if nothing else 1)
        printed = capsys.readouterr()
        assert "all symbols: limit 100 → 77\nAAA: quote_size 7 → 10\n" in printed.out
        now = revision + (1 if nothing else 2)
        assert f"`revision` is {now}: something was defined since {revision if nothing else now - 1}" in printed.err
        assert ("market was defined, and the rest was not" in printed.err) is not nothing
        assert " defined" not in printed.out
        assert ((await defined(operator)).quote_size, (await defined(operator)).min_spread) == (7, 3)
        terms = (await definition_log.read(operator)).terms
        assert terms is not None
        assert terms.limit == (100 if nothing else 77)


async def test_the_prices_of_a_feed_do_not_disturb_apply(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = server.settings
    other = replace(settings, market=msgspec.structs.replace(settings.market, limit=78))
    append = journal.append
    appended: list[str] = []

    async with server.connection("operator") as operator:
        await instruments.apply(settings)
        await redefine(operator, "AAA", quote_size=7)

        async def after_the_feed(connection: Connection, stream: str, subject: str, *more: Any, **named: Any) -> Any:
            appended.append(subject)
            if len(appended) <= 2:
                table = subjects.bucket_key(subjects.INSTRUMENTS_BUCKET, REFERENCES)
                head = (await definition_log.read(operator)).head
                await append(operator, stream, table, b"{}", msg_id=f"feed-{head}", compare=journal.Compare(head))
            return await append(connection, stream, subject, *more, **named)

        monkeypatch.setattr(journal, "append", after_the_feed)
        assert await instruments.apply(other) == 0
        known = await definition_log.read(operator)
        assert known.terms is not None
        assert known.terms.limit == 78
        assert (await defined(operator)).quote_size == 10


async def test_the_life_of_quotes_is_applied_while_everything_runs_up_to_the_largest(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = server.settings

    def living(quote_ttl: float, largest: float = 60.0) -> Any:
        market = msgspec.structs.replace(settings.market, quote_ttl=quote_ttl, max_quote_ttl=largest)
        return replace(settings, market=market)

    assert await prepare.run(settings) == 0
    assert await instruments.apply(living(60.0)) == 0
    assert "all symbols: quote_ttl 30.0 → 60.0\n" in capsys.readouterr().out
    assert await instruments.apply(living(70.0, 70.0)) == 2
    assert "`max_quote_ttl` is 60 for as long as anything runs" in capsys.readouterr().err

    assert await prepare.run(settings) == 0, "the settings only seed it"
    async with server.connection("operator") as operator:
        terms = (await definition_log.read(operator)).terms
        assert terms is not None
        assert terms.quote_ttl == 60
    assert await prepare.run(living(30.0, 45.0)) == REFUSED
    assert "max_quote_ttl is 45, and quote_ttl is defined as 60: lower that first" in capsys.readouterr().out
    assert await instruments.apply(settings) == 0


TIMES: dict[str, float] = {"max_quote_ttl": 90.0, "grace": 3.0, "id_window": 60.0}


async def test_times_change_only_while_nothing_runs(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    settings = server.settings
    others = [
        (name, value, replace(settings, market=msgspec.structs.replace(settings.market, **{name: value})))
        for name, value in TIMES.items()
    ]
    assert await prepare.run(settings) == 0
    for name, _, other in others:
        assert await instruments.apply(other) == 2
        assert f"`{name}` is {getattr(settings.market, name):g} for as long as anything runs" in capsys.readouterr().err

    async with server.connection("exchange") as exchange:
        listings = Listings(exchange, Health("exchange"), {}, lambda _: None, name="exchange-instruments")
        following = asyncio.create_task(listings.run())
        await listings.opened()
        for name, value, other in others:
            assert await prepare.run(other) == REFUSED
            output = capsys.readouterr().out
            assert f"{name} is {value:g}, and not {getattr(settings.market, name):g}" in output
            assert "exchange runs" in output
        following.cancel()
        await asyncio.wait([following])

    async with server.connection("operator") as operator:

        async def nobody() -> bool:
            return not await definition_log.followers(operator)

        await eventually(nobody)
    for each in (*(other for _, _, other in others), settings):
        assert await prepare.run(each) == 0
        assert "defined: " in capsys.readouterr().out
        assert await prepare.run(each) == 0
        assert "defined: " not in capsys.readouterr().out
