"""The second and later instances of a service, and how they differ."""

from pathlib import Path

from ledger.service import LedgerSettings
from process.settings import load
from stack.instances import LEDGER_DATABASE, instances
from stack.programs import nats_url, planned, programs, save_plan
from stack.settings import StackSettings, read


def test_the_first_instance_is_the_service_itself() -> None:
    (only,) = instances("exchange", 8001, 1, {})
    assert (only.name, only.service, only.port, only.environment) == ("exchange", "exchange", 8001, {})


def test_further_instances_are_numbered_and_listen_ten_ports_higher_each() -> None:
    _, second, third = instances("exchange", 8001, 3, {})
    assert (second.name, second.service, second.port) == ("exchange-2", "exchange", 8011)
    assert third.environment == {"QS_EXCHANGE_PORT": "8021"}
    assert third.name == "exchange-3"


def test_every_ledger_has_its_own_database() -> None:
    assert instances("ledger", 8002, 2, {})[1].environment["QS_LEDGER_DATABASE"] == "ledger-2.sqlite"
    named = instances("ledger", 8002, 2, {"database": "/books/main.db"})[1]
    assert named.environment["QS_LEDGER_DATABASE"] == "/books/main-2.db"


def test_the_default_database_is_the_ledgers_own(environ: dict[str, str], settings: StackSettings) -> None:
    assert load(LedgerSettings, "ledger", environ).database == Path(LEDGER_DATABASE)


def test_all_makers_have_the_same_settings() -> None:
    """They divide the symbols among themselves."""
    assert instances("maker", 8004, 2, {})[1].environment == {"QS_MAKER_PORT": "8014"}


def test_all_instances_start_together_each_with_its_own_name_and_port(
    environ: dict[str, str], settings: StackSettings
) -> None:
    more = read(environ | {"QS_STACK_EXCHANGES": "2", "QS_STACK_LEDGERS": "2"})
    plan = {program.name: program for program in programs(more)}
    assert list(plan)[2:] == ["exposure", "ledger", "ledger-2", "exchange", "exchange-2", "maker", "ui", "loadgen"]
    port = settings.ports["exchange"] + 10
    assert plan["exchange-2"].health == f"http://127.0.0.1:{port}/health"
    assert f"QS_EXCHANGE_PORT={port}" in plan["exchange-2"].command


def test_another_terminal_knows_which_processes_were_started(environ: dict[str, str], settings: StackSettings) -> None:
    """`status` and others run without the variables with which `up` was started."""
    more = read(environ | {"QS_STACK_EXCHANGES": "2", "QS_STACK_NATS_SERVERS": "3"})
    settings.data.mkdir()
    assert planned(settings) == programs(settings)
    save_plan(more, programs(more))
    assert planned(settings) == programs(more)
    assert nats_url(settings) == more.stack.url != settings.stack.url
