"""A stack that is isolated from any other."""

from pathlib import Path

import pytest

from stack.isolated_env import environment
from stack.settings import listening, read


def test_it_moves_every_port_and_all_data_and_inherits_no_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QS_MARKET_LIMIT", "7")
    monkeypatch.setenv("NATS_URL", "nats://elsewhere:4222")
    usual = {wanted.port for wanted in listening(read({}))}
    settings = read(environment(tmp_path, ["AAA", "BBB"], size=20, STACK_EXCHANGES=2, STACK_NATS_SERVERS=3))
    assert not usual & {wanted.port for wanted in listening(settings)}
    assert settings.data == tmp_path / "data"
    assert settings.market.limit == 100
    assert [symbol.quote_size for symbol in settings.market.symbols.values()] == [20, 20]
    assert (len(settings.nats_servers), "exchange-2" in settings.ports) == (3, True)
