"""The ports, folders and addresses of a stack."""

import pytest

from process.settings import SettingsError, Stack
from stack import services
from stack.instances import Instance
from stack.settings import StackSettings, listening, read


def test_every_port_is_listed_with_the_variable_that_changes_it(
    settings: StackSettings, environ: dict[str, str]
) -> None:
    assert {wanted.variable: str(wanted.port) for wanted in listening(settings)} == {
        name: value for name, value in environ.items() if name.startswith("QS_") and name.endswith("_PORT")
    }


def test_with_nats_url_no_server_is_started(environ: dict[str, str], settings: StackSettings) -> None:
    there = read(environ | {"NATS_URL": "nats://broker.example:4222"})
    assert there.nats_servers == []
    assert {wanted.variable for wanted in listening(settings)} - {wanted.variable for wanted in listening(there)} == {
        "QS_STACK_NATS_PORT",
        "QS_STACK_NATS_MONITOR_PORT",
    }


def test_a_cluster_has_three_servers_and_three_replicas(environ: dict[str, str], settings: StackSettings) -> None:
    assert settings.market.replicas == 1
    three = read(environ | {"QS_STACK_NATS_SERVERS": "3"})
    assert three.market.replicas == 3
    assert [server.name for server in three.nats_servers] == ["nats-1", "nats-2", "nats-3"]
    assert three.stack.url == ",".join(f"nats://127.0.0.1:{settings.stack.nats_port + n}" for n in range(3))
    assert len({server.folder for server in three.nats_servers}) == 3


def test_more_replicas_than_servers_are_refused(environ: dict[str, str], settings: StackSettings) -> None:
    with pytest.raises(SettingsError, match="QS_MARKET_REPLICAS"):
        read(environ | {"QS_MARKET_REPLICAS": "3"})
    assert read(environ | {"QS_MARKET_REPLICAS": "3", "NATS_URL": "nats://broker.example"}).market.replicas == 3


def test_a_cluster_of_two_servers_is_refused(environ: dict[str, str], settings: StackSettings) -> None:
    with pytest.raises(SettingsError, match=r"stack\.nats_servers"):
        read(environ | {"QS_STACK_NATS_SERVERS": "2"})


def test_two_ports_that_are_the_same_are_refused(environ: dict[str, str], settings: StackSettings) -> None:
    with pytest.raises(SettingsError, match=r"maker \(QS_MAKER_PORT\) and ui \(QS_UI_PORT\)"):
        read(environ | {"QS_MAKER_PORT": environ["QS_UI_PORT"]})


def test_port_0_is_refused(environ: dict[str, str], settings: StackSettings) -> None:
    with pytest.raises(SettingsError, match="QS_UI_PORT"):
        read(environ | {"QS_UI_PORT": "0"})


def test_the_socket_of_a_deep_data_folder_is_elsewhere_and_short(
    environ: dict[str, str], settings: StackSettings
) -> None:
    deep = read(environ | {"QS_STACK_DATA_DIR": f"/tmp/{'deep/' * 30}data"})  # noqa: S108 # nothing is made there
    other = read(environ | {"QS_STACK_DATA_DIR": f"/tmp/{'deep/' * 31}data"})  # noqa: S108 # nothing is made there
    assert len(str(deep.socket)) < 100
    assert deep.socket != other.socket


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:9"),
        ("0.0.0.0", "http://127.0.0.1:9"),  # noqa: S104 # nothing is bound
        ("::", "http://[::1]:9"),
        ("10.1.2.3", "http://10.1.2.3:9"),
    ],
)
def test_a_services_address_is_reachable_from_this_machine(settings: StackSettings, host: str, address: str) -> None:
    moved = StackSettings(settings.market, Stack(host=host), [Instance("ui", "ui", 9)], settings.folder)
    assert moved.address("ui") == address


def test_the_default_ports_are_those_of_the_services(
    settings: StackSettings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """They are repeated, because commands that must be quick do not import the services."""
    market = tmp_path_factory.mktemp("market") / "market.toml"
    market.write_text(
        '[symbols.AAA]\ntick = "0.01"\nreference_price = "100"\nquote_size = 10\n'
        'gamma = "0.1"\nk = "20"\na = "1"\nsigma = "0.3"\n'
    )
    found = read({"QS_MARKET_FILE": str(market)})
    for service, port in found.ports.items():
        assert _default_port(service) == port


def _default_port(service: str) -> object:
    kind = services.SETTINGS[service]
    fields = dict(zip(reversed(kind.__struct_fields__), reversed(kind.__struct_defaults__), strict=False))
    return fields["port"]


def test_the_error_names_both_instances_on_one_port(environ: dict[str, str], settings: StackSettings) -> None:
    below = str(settings.ports["ledger"] - 10)
    with pytest.raises(SettingsError, match=r"ledger \(QS_LEDGER_PORT\) and exchange-2 \(QS_EXCHANGE_PORT\)"):
        read(environ | {"QS_STACK_EXCHANGES": "2", "QS_EXCHANGE_PORT": below})


def test_a_further_instance_beyond_the_last_port_is_refused(environ: dict[str, str], settings: StackSettings) -> None:
    with pytest.raises(SettingsError, match=r"QS_EXCHANGE_PORT: exchange-2 would listen on 65541"):
        read(environ | {"QS_STACK_EXCHANGES": "2", "QS_EXCHANGE_PORT": "65531"})


@pytest.mark.parametrize("count", ["0", "10", "two"])
def test_an_invalid_count_is_refused(environ: dict[str, str], settings: StackSettings, count: str) -> None:
    with pytest.raises(SettingsError, match=r"stack\.exchanges"):
        read(environ | {"QS_STACK_EXCHANGES": count})


def test_a_mistake_in_one_services_table_is_found_before_anything_starts(
    environ: dict[str, str], settings: StackSettings
) -> None:
    services.check(environ)
    with pytest.raises(SettingsError, match=r"settings of ledger.*nonsense"):
        services.check(environ | {"QS_LEDGER_NONSENSE": "1"})
