"""`stack up` as a process (`support.foreground`): starting, being output, ending."""

import asyncio
import functools
import os
import shutil
import signal
import socket
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import nats
import pytest

from chaos.disk import Disk, NoDisk
from stack.__main__ import main
from stack.control import Control
from stack.lock import is_up
from stack.settings import ACCOUNT, StackSettings, streams_in
from support import needs
from support.foreground import ONLY_NATS, Place, Up, client_of, ended, placed, stack
from support.waiting import HANG, STACK_HANG, eventually

Command = Callable[..., tuple[int, str]]

NOT_OURS = "notes.txt"
"""A file in a data folder that is not the stack's."""


@pytest.fixture
async def up(environ: dict[str, str], settings: StackSettings) -> AsyncIterator[Up]:
    """A foreground that is starting, for one test. The path of its data folder contains a blank."""
    running = Up(environ)
    yield running
    await ended(running, settings)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A foreground that is ready, for all tests that leave it running."""
    environ, settings = placed(tmp_path_factory.mktemp("running"))
    place = Place(environ, settings, Up(environ))
    asyncio.run(place.up.prints("everything is ready"))
    yield place
    asyncio.run(ended(place.up, settings))


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The data of a stack that SIGTERM has ended, to be copied. They were readable by others before it started."""
    environ, settings = placed(tmp_path_factory.mktemp("left"))
    for folder in (settings.logs, settings.keys, settings.data / ACCOUNT):
        folder.mkdir(parents=True, exist_ok=True)
    ours = ("stack.lock", "ledger.sqlite", "ledger.sqlite-wal", "plan.json", "logs/nats.log", "keys/maker.seed")
    for name in (*ours, NOT_OURS):
        (settings.data / name).touch()
    for path in [settings.data, *settings.data.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    place = Place(environ, settings, Up(environ))
    asyncio.run(_used_and_ended(place))
    return place


async def _used_and_ended(place: Place) -> None:
    await place.up.prints("everything is ready")
    async with client_of(place.settings) as client:
        for _ in range(2):
            await client.jetstream(timeout=HANG).publish("positions.AAPL", b"x" * 1000)
    await stopped_by(place.up, signal.SIGTERM)


async def stopped_by(up: Up, number: signal.Signals) -> None:
    """Send a signal several times, as if programs in between forwarded a Ctrl-C: that is still one request."""
    for _ in range(3):
        os.killpg(up.process.pid, number)
    await up.ends()


def copied(left: Place, settings: StackSettings) -> None:
    """Copy the data of a stack for another one."""
    shutil.copytree(left.settings.data, settings.data, symlinks=True)


@pytest.fixture
def command(
    environ: dict[str, str],
    settings: StackSettings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """One of the commands that start nothing, in this process: exit code and output."""

    def run(*arguments: str, **more: str) -> tuple[int, str]:
        for name, value in (environ | more).items():
            monkeypatch.setenv(name, value)
        before = os.umask(0)
        os.umask(before)
        try:
            code = main(arguments)
        finally:
            os.umask(before)  # `up` sets it, and this process goes on
        return code, "".join(capsys.readouterr())

    return run


# --- its output, and how it ends --------------------------------------------------------------------------------------


async def test_it_prints_the_addresses(running: Place) -> None:
    await running.up.prints(f"nats +nats://127.0.0.1:{running.settings.stack.nats_port}")
    await running.up.prints(f"The page is http://127.0.0.1:{running.settings.ports['ui']}/")


async def test_a_second_stack_on_the_same_data_is_refused_and_disturbs_nothing(running: Place) -> None:
    code, output = await stack(running.environ, "up")
    assert code == 1
    assert "already up" in output
    assert running.up.process.poll() is None


async def test_clean_data_refuses_while_the_stack_is_up(running: Place) -> None:
    code, output = await stack(running.environ, "clean-data")
    assert code == 1
    assert "./qs down" in output
    assert running.settings.data.exists()


async def test_a_killed_process_is_restarted_and_reported(running: Place) -> None:
    async with Control(running.settings.socket) as control:
        os.kill((await control.processes())["nats"].pid, signal.SIGKILL)
    await running.up.prints(r"nats +restarted and ready again|nats +ended \(killed\)(.|\n)*ready again")


@pytest.mark.last
async def test_down_stops_it_from_elsewhere_and_waits_until_it_is_down(running: Place) -> None:
    assert await stack(running.environ, "down") == (0, "everything is stopped\n")
    assert not is_up(running.settings)
    assert await running.up.ends() == 0


async def test_a_signal_stops_everything_with_exit_code_0(left: Place, up: Up) -> None:
    await up.prints("everything is ready")
    await stopped_by(up, signal.SIGINT)
    for one in (up, left.up):
        assert one.process.returncode == 0
        assert "everything is stopped" in one.output
        assert "kill" not in one.output


async def test_if_supervisord_dies_nothing_is_left_running(up: Up, settings: StackSettings) -> None:
    await up.prints("everything is ready")
    os.kill(int((settings.data / "supervisord.pid").read_text()), signal.SIGKILL)
    assert await up.ends() == 1
    assert "supervisord died" in up.output


# --- its data, and what has happened to them --------------------------------------------------------------------------


def test_its_data_are_private_even_if_they_existed_before(left: Place) -> None:
    """Positions, keys and orders are confidential, and anyone who may open a lock file may take the lock."""
    data = left.settings.data
    found = {path: stat.S_IMODE(path.lstat().st_mode) for path in [data, *data.rglob("*")]}
    assert found.pop(data / NOT_OURS) == 0o644, "another file is left alone"
    open_to_others = [path for path, mode in found.items() if mode & 0o077 and not path.is_symlink()]
    assert (open_to_others, len(found) > 20) == ([], True)


async def test_after_a_power_cut_that_left_keys_and_configurations_empty_it_starts(
    left: Place, environ: dict[str, str], settings: StackSettings
) -> None:
    copied(left, settings)
    for path in [*settings.keys.iterdir(), settings.data / "plan.json", settings.data / "supervisord.conf"]:
        path.write_bytes(b"")
    assert (await stack(environ, "status"))[0] == 1
    again = Up(environ)
    await again.prints("everything is ready")
    again.process.terminate()
    assert await again.ends() == 0


async def test_settings_that_contradict_the_data_are_refused_in_plain_words(
    left: Place, environ: dict[str, str], settings: StackSettings
) -> None:
    copied(left, settings)
    again = Up(environ | {"QS_MARKET_SHARDS": "2"})
    assert await again.ends() == 1
    assert "cannot be made as declared" in again.output
    assert "shards" in again.output


async def test_a_damaged_store_is_named_and_its_server_stays_within_its_memory_limit(
    left: Place, environ: dict[str, str], settings: StackSettings
) -> None:
    """If a sequence in a block file is changed, the server goes through all numbers up to it."""
    copied(left, settings)
    block = streams_in(settings.data) / "POSITIONS" / "msgs" / "1.blk"
    with block.open("r+b") as file:
        length = int.from_bytes(file.read(4), "little") & 0x7FFFFFFF
        file.seek(length + 9)  # of the second record: its length, then its sequence in eight bytes
        file.write(b"\x20")
    little = ONLY_NATS.replace(
        "supervise.programs", "from stack import programs as of; of.MEMORY = 2 << 30\nsupervise.programs"
    )
    again = Up(environ, command=little)
    await again.prints(r"nats .*POSITIONS cannot be restored, its store is damaged")
    code, output = await stack(environ, "status")
    assert code == 1
    assert 'see "A damaged store" in docs/operations.md' in output
    again.process.terminate()
    await again.ends()


async def test_a_full_disk_does_not_end_the_stack(environ: dict[str, str], settings: StackSettings) -> None:
    """No log can be written: not those of the processes, not supervisord's, and not its error messages."""
    settings.logs.mkdir(parents=True)
    for name in ("nats.log", "prepare.log", "supervisord.log", "supervisord.out"):
        (settings.logs / name).symlink_to("/dev/full")
    up = Up(environ)
    await up.prints("everything is ready")
    async with Control(settings.socket) as control:
        os.kill((await control.processes())["nats"].pid, signal.SIGKILL)
    await up.prints(r"nats +restarted and ready again|nats +ended \(killed\)(.|\n)*ready again")
    up.process.terminate()
    await up.ends()


async def test_when_a_full_disk_has_room_again_nats_is_restarted_and_writes(
    environ: dict[str, str], settings: StackSettings
) -> None:
    needs.ROOT.skip()
    disk = Disk(settings.data)
    try:
        disk.mount()
    except NoDisk as why:
        pytest.skip(f"there is no disk to fill: {why}")
    try:
        up = Up(environ)
        await up.prints("everything is ready")
        async with client_of(settings) as client:
            publish = functools.partial(client.jetstream(timeout=HANG).publish, "positions.AAPL", b"x" * 100_000)
            await publish()
            disk.fill()
            with pytest.raises(nats.errors.TimeoutError):
                await publish(timeout=1)
            await up.prints("waits for .*no space left")
            assert "it is restarted" not in up.output
            disk.free()
            await up.prints("the disk has room again: it is restarted")
            await up.prints("(?s)room again.*nats +(restarted and )?ready again")
        async with client_of(settings) as client:
            await client.jetstream(timeout=HANG).publish("positions.AAPL", b"x")
        up.process.terminate()
        assert await up.ends() == 0
    finally:
        disk.unmount()


async def test_if_the_foreground_is_killed_the_rest_stops_in_order(up: Up, settings: StackSettings) -> None:
    await up.prints("everything is ready")
    up.process.kill()
    await up.ends()
    await eventually(lambda: not is_up(settings), STACK_HANG)


@pytest.mark.parametrize(("servers", "store"), [("1", "nats-1/jetstream"), ("3", "jetstream")])
async def test_data_of_another_number_of_nats_servers_is_refused(
    environ: dict[str, str], settings: StackSettings, servers: str, store: str
) -> None:
    """The ledgers would have applied more than the market log holds, and could never go on."""
    (settings.data / store).mkdir(parents=True)
    code, output = await stack(environ | {"QS_STACK_NATS_SERVERS": servers}, "up")
    assert code == 1
    assert "another number of NATS servers" in output
    assert not (settings.data / "supervisord.conf").exists()


async def test_a_port_in_use_prevents_the_start(environ: dict[str, str], settings: StackSettings) -> None:
    with socket.create_server(("127.0.0.1", settings.ports["ledger"])):
        code, output = await stack(environ, "up")
    assert code == 1
    assert f"port {settings.ports['ledger']} is used by process {os.getpid()}" in output
    assert "QS_LEDGER_PORT" in output
    assert not (settings.data / "supervisord.conf").exists()


@pytest.mark.parametrize("name", ["up", "status"])
def test_outside_the_projects_folder_the_error_says_where_to_run(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, output = command(name)
    assert code == 2
    assert "run from the project's folder" in output


def test_a_path_that_supervisord_cannot_read_is_refused(command: Command, tmp_path: Path) -> None:
    code, output = command("up", QS_STACK_DATA_DIR=str(tmp_path / "100%"))
    assert code == 2
    assert "'%'" in output


def test_every_command_reports_that_nothing_is_up(command: Command, settings: StackSettings) -> None:
    nothing = f"nothing is up on {settings.data}\n"
    assert command("status") == (1, nothing)
    assert command("down") == (0, nothing)
    assert command("wait", "--timeout", "0.1") == (1, nothing)


def test_clean_data_removes_a_stacks_data_and_nothing_else(command: Command, settings: StackSettings) -> None:
    settings.data.mkdir()
    (settings.data / "precious").touch()
    assert command("clean-data", "--yes")[0] == 1
    assert (settings.data / "precious").exists()
    (settings.data / "stack.lock").touch()
    assert command("clean-data", "--yes")[0] == 0
    assert not settings.data.exists()
