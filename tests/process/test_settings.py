"""Settings: the market file, overridden by the environment; unknown names are refused."""

from pathlib import Path

import pytest

from process.settings import Port, ServiceSettings, SettingsError, load, tables

SYMBOL = """
[symbols.AAA]
tick = "0.01"
reference_price = 100.05
quote_size = 10
gamma = 0.1
k = 20
a = 1
sigma = 0.3
"""


class Settings(ServiceSettings, frozen=True, kw_only=True):
    port: Port = 8001


def environ(tmp_path: Path, text: str = SYMBOL, **more: str) -> dict[str, str]:
    path = tmp_path / "market.toml"
    path.write_text(text)
    return {"QS_MARKET_FILE": str(path), **more}


def test_settings_come_from_the_file_and_have_defaults(tmp_path: Path) -> None:
    settings = load(Settings, "exchange", environ(tmp_path))
    assert (settings.port, settings.market.limit, settings.stack.host) == (8001, 100, "127.0.0.1")
    assert str(settings.market.symbols["AAA"].reference_price) == "100.05"


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    settings = load(
        Settings,
        "exchange",
        environ(
            tmp_path,
            QS_EXCHANGE_PORT="9001",
            QS_MARKET_QUOTE_TTL="1.5",
            QS_STACK_DATA_DIR="/tmp/x",  # noqa: S108 # only a value
            NATS_URL="nats://elsewhere:4222",
        ),
    )
    assert (settings.port, settings.market.quote_ttl) == (9001, 1.5)
    assert settings.stack.data_dir == Path("/tmp/x")  # noqa: S108 # as above
    assert settings.stack.url == "nats://elsewhere:4222"


def test_a_reservation_counts_for_the_longest_life_of_a_quote_and_the_grace(tmp_path: Path) -> None:
    settings = load(Settings, "exchange", environ(tmp_path, QS_MARKET_MAX_QUOTE_TTL="32.5", QS_MARKET_GRACE="0.2"))
    assert settings.market.reservation_life == pytest.approx(32.7)


@pytest.mark.parametrize(
    ("text", "variables", "named"),
    [
        (SYMBOL + "[markt]\nlimit = 1\n", {}, "markt"),
        (SYMBOL + "[market]\nlimitt = 1\n", {}, "limitt"),
        (SYMBOL + "[exchange]\nport = 99999\n", {}, "port"),
        (SYMBOL, {"QS_EXCHANGE_PROT": "1"}, "prot"),
        (SYMBOL, {"QS_NOSUCH_KEY": "1"}, "QS_NOSUCH_KEY"),
        (SYMBOL, {"QS_MARKET_LIMIT": "many"}, "limit"),
        (SYMBOL, {"QS_MARKET_QUOTE_TTL": "61"}, "`quote_ttl` must be at most `max_quote_ttl`, which is 60"),
        (SYMBOL, {"QS_STACK_TRACES": "127.0.0.1:4318"}, "traces"),
        ("", {}, "symbol"),
        (SYMBOL.replace("AAA", '"A.B"'), {}, "symbols"),
        (SYMBOL.replace('"0.01"', '"0"'), {}, "tick"),
        ("[market", {}, "market.toml"),
    ],
)
def test_an_invalid_setting_is_refused_by_its_name(
    tmp_path: Path, text: str, variables: dict[str, str], named: str
) -> None:
    with pytest.raises(SettingsError, match=named):
        load(Settings, "exchange", environ(tmp_path, text, **variables))


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="QS_MARKET_FILE"):
        tables({"QS_MARKET_FILE": str(tmp_path / "none.toml")})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_on_loopback_tokens_are_optional(tmp_path: Path, host: str) -> None:
    assert load(Settings, "exchange", environ(tmp_path, QS_STACK_HOST=host)).stack.tokens == ""


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "desk.example"])  # noqa: S104 # read, not bound to
def test_any_other_address_requires_tokens(tmp_path: Path, host: str) -> None:
    given = environ(tmp_path, QS_STACK_HOST=host)
    with pytest.raises(SettingsError, match="set QS_STACK_TOKENS"):
        load(Settings, "exchange", given)
    assert load(Settings, "exchange", {**given, "QS_STACK_TOKENS": "tokens"}).stack.host == host


def test_a_certificate_requires_its_key_and_turns_tls_on(tmp_path: Path) -> None:
    given = environ(tmp_path, QS_STACK_TLS_CERTIFICATE="server.pem")
    with pytest.raises(SettingsError, match="tls_key"):
        load(Settings, "exchange", given)
    stack = load(Settings, "exchange", {**given, "QS_STACK_TLS_KEY": "server.key"}).stack
    assert (stack.url, stack.http_scheme) == ("tls://127.0.0.1:4222", "https")
