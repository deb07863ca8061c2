"""The keys of the broker's users, as files."""

import re
import stat
from dataclasses import replace
from pathlib import Path

import msgspec
import nkeys
import pytest

from jet.grants import grants
from process.settings import SettingsError
from stack import keys
from stack.settings import StackSettings, read

USERS = {grant.user for grant in grants(1)}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_user_has_its_own_key_which_only_the_files_owner_can_read(settings: StackSettings) -> None:
    keys.make(settings)
    seeds = {path.stem: path.read_bytes() for path in settings.keys.glob("*.seed")}
    assert seeds.keys() == USERS
    assert len(set(seeds.values())) == len(USERS)
    assert stat.S_IMODE(settings.keys.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in settings.keys.iterdir()} == {0o600}


def test_an_existing_key_is_kept_and_a_missing_one_is_created(settings: StackSettings) -> None:
    keys.make(settings)
    before = contents(settings.keys)
    keys.make(settings)
    assert contents(settings.keys) == before
    (settings.keys / "maker.seed").unlink()
    keys.make(settings)
    after = contents(settings.keys)
    assert {name for name, content in after.items() if content != before[name]} == {"maker.seed", "nats.conf"}


ACCOUNT = bytes(nkeys.encode_seed(b"\1" * 32, nkeys.PREFIX_BYTE_ACCOUNT))
"""A key, but not one that a server accepts for a user."""


@pytest.mark.parametrize("damaged", [b"", b"\0" * 58, b"SUAKI5H3", b"\xff\xfe", ACCOUNT])
def test_a_key_that_a_power_cut_left_empty_or_damaged_is_replaced(settings: StackSettings, damaged: bytes) -> None:
    keys.make(settings)
    before = contents(settings.keys)
    (settings.keys / "exchange.seed").write_bytes(damaged)
    (settings.keys / "nats.conf").write_bytes(b"")
    keys.make(settings)
    after = contents(settings.keys)
    assert {name for name, content in after.items() if content != before[name]} == {"exchange.seed", "nats.conf"}
    assert nkeys.from_seed(bytearray(after["exchange.seed"].strip())).public_key in after["nats.conf"]


@pytest.mark.parametrize("damaged", [b"", b"\n", b"\0" * 48, b"short", b"\xff" * 48, b'with "quotes" and blanks'])
def test_the_password_of_a_cluster_is_never_empty_or_damaged(environ: dict[str, str], damaged: bytes) -> None:
    three = read(environ | {"QS_STACK_NATS_SERVERS": "3"})
    keys.make(three)
    file = three.keys / "routes.password"
    file.write_bytes(damaged)
    keys.make(three)
    password = file.read_text().strip()
    assert len(password) >= 16
    for server in three.nats_servers:
        assert f'password: "{password}"' in keys.config_of(three, server).read_text()
    keys.make(three)
    assert file.read_text().strip() == password


@pytest.mark.parametrize("content", [None, b"", b"nonsense", ACCOUNT])
def test_the_error_about_a_missing_key_says_what_to_do(settings: StackSettings, content: bytes | None) -> None:
    keys.make(settings)
    seed = settings.keys / "observer.seed"
    seed.unlink()
    if content is not None:
        seed.write_bytes(content)
    with pytest.raises(SettingsError, match=r"observer\.seed (does not exist|holds no key); `\./qs up` creates one"):
        keys.seed_of(settings, "observer")


def test_the_only_secret_in_a_servers_configuration_is_the_clusters_password(environ: dict[str, str]) -> None:
    three = read(environ | {"QS_STACK_NATS_SERVERS": "3"})
    keys.make(three)
    seeds = [path.read_text().strip() for path in three.keys.glob("*.seed")]
    for server in three.nats_servers:
        text = keys.config_of(three, server).read_text()
        assert not [seed for seed in seeds if seed in text]
        assert (three.keys / "routes.password").read_text().strip() in text


def test_another_folder_of_keys_is_used_by_services_and_servers(settings: StackSettings, tmp_path: Path) -> None:
    stack = msgspec.structs.replace(settings.stack, nats_keys=tmp_path / "elsewhere")
    elsewhere = replace(settings, stack=stack)
    keys.make(elsewhere)
    assert stack.nats_seed("maker") == tmp_path / "elsewhere" / "maker.seed"
    assert (tmp_path / "elsewhere" / "nats.conf").is_file()
    assert not (settings.data / "keys").exists()


def test_another_server_is_used_without_keys_unless_a_folder_is_named(environ: dict[str, str], tmp_path: Path) -> None:
    there = read(environ | {"NATS_URL": "nats://broker.example"})
    assert there.stack.nats_seed("maker") is None
    keys.check(there)
    named = read(environ | {"NATS_URL": "nats://broker.example", "QS_STACK_NATS_KEYS": str(tmp_path)})
    with pytest.raises(SettingsError, match=r"exchange\.seed does not exist"):
        keys.check(named)
    keys.make(named)
    keys.check(named)
    (tmp_path / "exchange.seed").write_bytes(b"")
    with pytest.raises(SettingsError, match=r"exchange\.seed holds no key; `\./qs keys` creates one"):
        keys.check(named)


def test_a_folder_in_the_place_of_a_key_is_reported(settings: StackSettings) -> None:
    (settings.keys / "ui.seed").mkdir(parents=True)
    with pytest.raises(SettingsError, match=r"ui\.seed: Is a directory"):
        keys.make(settings)


def test_a_folder_that_cannot_be_written_is_reported_with_its_variable(settings: StackSettings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    stack = msgspec.structs.replace(settings.stack, nats_keys=tmp_path / "file")
    with pytest.raises(SettingsError, match="QS_STACK_NATS_KEYS"):
        keys.make(replace(settings, stack=stack))


def test_no_account_can_take_the_connections_of_another(settings: StackSettings) -> None:
    """The sum of their limits is less than the server's."""
    keys.make(settings)
    most = [int(each) for each in re.findall(r'"max_connections": (\d+)', (settings.keys / "nats.conf").read_text())]
    assert len(most) == 3
    shared = (Path(__file__).parents[2] / "nats" / "server.conf").read_text()
    of_server = re.search(r"^max_connections: (\d+)", shared, re.MULTILINE)
    assert of_server is not None
    assert sum(most) < int(of_server[1])
