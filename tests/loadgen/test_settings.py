"""The `[loadgen]` table."""

from pathlib import Path

import pytest

from loadgen.settings import load_settings
from process.settings import SettingsError
from stack import isolated_env

SYMBOL = isolated_env.SYMBOL.format(name="AAA", size=10)


def environment(tmp_path: Path, tables: str = "", **variables: str) -> dict[str, str]:
    path = tmp_path / "market.toml"
    path.write_text(tables + SYMBOL)
    return {"QS_MARKET_FILE": str(path), **variables}


def test_every_option_has_a_default(tmp_path: Path) -> None:
    settings = load_settings(environment(tmp_path))
    assert (settings.rate, settings.url, settings.symbols) == (20.0, "http://127.0.0.1:8001", "")


def test_the_default_exchange_is_that_of_the_stack(tmp_path: Path) -> None:
    environ = environment(tmp_path, "[exchange]\nport = 9001\n", QS_STACK_HOST="::1")
    assert load_settings(environ).url == "http://[::1]:9001"
    environ = environment(tmp_path, QS_EXCHANGE_PORT="9002", QS_STACK_HOST="0.0.0.0")  # noqa: S104 # read, not bound to
    assert load_settings(environ).url == "http://127.0.0.1:9002"


def test_orders_go_to_all_exchanges_of_the_stack(tmp_path: Path) -> None:
    environ = environment(tmp_path, QS_EXCHANGE_PORT="9001", QS_STACK_EXCHANGES="3")
    assert load_settings(environ).url == "http://127.0.0.1:9001,http://127.0.0.1:9011,http://127.0.0.1:9021"
    with pytest.raises(SettingsError, match="QS_EXCHANGE_PORT: high"):
        load_settings(environ | {"QS_EXCHANGE_PORT": "high"})


def test_settings_come_from_the_table_and_the_environment(tmp_path: Path) -> None:
    environ = environment(tmp_path, '[loadgen]\nurl = "http://there:1"\nrate = 3\n', QS_LOADGEN_RATE="4.5")
    settings = load_settings(environ)
    assert (settings.url, settings.rate) == ("http://there:1", 4.5)


@pytest.mark.parametrize("table", ["rate = 0", "aggressiveness = 1.5", "concurrency = 0", "port = 9", "colour = 1"])
def test_invalid_settings_are_refused(tmp_path: Path, table: str) -> None:
    with pytest.raises(SettingsError):
        load_settings(environment(tmp_path, f"[loadgen]\n{table}\n"))


def test_with_tokens_and_tls_the_traders_token_is_sent_over_https(tmp_path: Path) -> None:
    given = {"QS_STACK_TOKENS": "tokens", "QS_STACK_TLS_CERTIFICATE": "c", "QS_STACK_TLS_KEY": "k"}
    settings = load_settings(environment(tmp_path, **given))
    assert (settings.token_file, settings.url) == ("tokens/trader", "https://127.0.0.1:8001")
    given["QS_LOADGEN_TOKEN_FILE"] = str(tmp_path / "mine")
    assert load_settings(environment(tmp_path, **given)).token_file.startswith(str(tmp_path))
