"""`./qs market apply` and `./qs symbol` undo nothing that somebody else has defined meanwhile."""

import re
from collections.abc import Iterator
from decimal import Decimal

import pytest

from jet import defining
from jet.connection import Connection
from stack import instruments
from support.definitions import redefine, seed
from support.secured import Server, serving
from wire.instruments import Instrument


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("instruments")) as found:
        yield found


async def defined(operator: Connection) -> Instrument:
    listing = (await defining.read(operator)).listing("AAA")
    assert listing is not None
    return listing.instrument


async def test_what_was_defined_since_it_was_looked_at_is_not_overwritten(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = server.settings
    async with server.connection("operator") as operator:
        await seed(operator, settings.market)
        await redefine(operator, "AAA", quote_size=7)
        assert await instruments.diff(settings) == 1
        told = re.search(r"--revision (\d+)`", capsys.readouterr().out)
        assert told is not None
        await redefine(operator, "AAA", min_spread=3)
        assert await instruments.apply(settings, int(told[1])) == 2
        assert "something was defined since" in capsys.readouterr().err
        assert ((await defined(operator)).quote_size, (await defined(operator)).min_spread) == (7, 3)

        assert await instruments.set_symbol(settings, "AAA", ["reference_price=101.00"]) == 0
        changed = await defined(operator)
        assert (changed.reference_price, changed.quote_size, changed.min_spread) == (Decimal("101.00"), 7, 3)

        assert await instruments.apply(settings) == 0
        assert await defined(operator) == settings.market.symbols["AAA"]
