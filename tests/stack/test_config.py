"""The configuration of supervisord and of the NATS servers."""

import configparser
import os
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

from process.settings import Stack
from stack import keys
from stack.config import supervisord_conf
from stack.programs import Program, nats_server, programs
from stack.settings import StackSettings, read


def parsed(settings: StackSettings, plan: list[Program]) -> configparser.ConfigParser:
    """The configuration as supervisord reads it: `%%` is a plain `%`."""
    parser = configparser.ConfigParser(
        interpolation=configparser.BasicInterpolation(), inline_comment_prefixes=(";", "#")
    )
    parser.read_string(supervisord_conf(settings, plan))
    return parser


def test_processes_start_in_order_with_nats_first_so_that_it_stops_last(settings: StackSettings) -> None:
    conf = parsed(settings, programs(settings))
    found = {name.removeprefix("program:"): int(conf[name]["priority"]) for name in conf if name.startswith("program:")}
    assert sorted(found, key=lambda name: found[name]) == [
        "nats",
        "prepare",
        "exposure",
        "ledger",
        "exchange",
        "maker",
        "ui",
        "loadgen",
    ]
    assert len(set(found.values())) == len(found)


def test_services_are_always_restarted_and_prepare_only_after_a_crash(
    settings: StackSettings,
) -> None:
    conf = parsed(settings, programs(settings))
    assert conf["program:exchange"]["autorestart"] == "true"
    assert int(conf["program:exchange"]["startretries"]) > 100
    assert conf["program:prepare"]["autorestart"] == "unexpected"
    assert conf["program:prepare"]["exitcodes"] == "0,3"


def test_every_process_has_its_own_log_in_the_data_folder(settings: StackSettings) -> None:
    conf = parsed(settings, programs(settings))
    logs = {conf[name]["stdout_logfile"] for name in conf if name.startswith("program:")}
    assert logs == {str(settings.data / "logs" / f"{program.name}.log") for program in programs(settings)}


def test_no_server_is_started_if_nats_url_names_one(settings: StackSettings) -> None:
    there = replace(settings, stack=Stack(nats_url="nats://broker.example:4222"))
    assert "nats" not in {program.name for program in programs(there)}


def test_no_secret_is_in_an_argument_of_a_process(environ: dict[str, str]) -> None:
    three = read(environ | {"QS_STACK_NATS_SERVERS": "3", "QS_STACK_EXCHANGES": "2"})
    keys.make(three)
    kept = [path.read_text().strip() for kind in ("seed", "password") for path in three.keys.glob(f"*.{kind}")]
    assert len(kept) == 10
    plan = programs(three)
    visible = "\n".join([*(word for program in plan for word in program.command), supervisord_conf(three, plan)])
    assert not [secret for secret in kept if secret in visible]


def test_blanks_quotes_and_percent_signs_of_an_argument_survive(settings: StackSettings) -> None:
    command = ("echo", "a b", "100%", "it's", 'say "hi"', "%(ENV_HOME)s")
    conf = parsed(settings, [Program("odd", command)])
    assert tuple(shlex.split(conf["program:odd"]["command"])) == command


def test_the_nats_server_accepts_its_configuration(settings: StackSettings) -> None:
    _accepted(settings)


def test_the_nats_server_accepts_a_data_folder_with_an_odd_name(environ: dict[str, str], tmp_path: Path) -> None:
    for name in ("my data", "it's 100%", "12", 'a"b', "ü # ; {}"):
        _accepted(read(environ | {"QS_STACK_DATA_DIR": str(tmp_path / name)}))
    _accepted(read(environ | {"QS_STACK_DATA_DIR": "12", "QS_STACK_NATS_KEYS": str(tmp_path / "keys")}))


def test_every_server_of_a_cluster_accepts_its_configuration(environ: dict[str, str], settings: StackSettings) -> None:
    _accepted(read(environ | {"QS_STACK_NATS_SERVERS": "3"}))


def test_the_nats_server_refuses_to_start_without_its_variables(settings: StackSettings) -> None:
    """Nothing in the files is a default: a stack never lands on another one's ports or data by omission."""
    keys.make(settings)
    bare = {name: value for name, value in os.environ.items() if not name.startswith("QS_")}
    for name in ("server.conf", "cluster.conf"):
        config = settings.folder / "nats" / name
        checked = subprocess.run([nats_server(), "-c", str(config), "-t"], capture_output=True, text=True, env=bare)
        assert checked.returncode != 0
        assert "QS_STACK_" in checked.stderr


def _accepted(settings: StackSettings) -> None:
    keys.make(settings)
    servers = [program for program in programs(settings) if program.name.startswith("nats")]
    assert servers
    for server in servers:
        checked = subprocess.run([*server.command, "-t"], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
