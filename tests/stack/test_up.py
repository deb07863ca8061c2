"""`stack up` as a process, with NATS and its preparation only: starting, being told, ending."""

import asyncio
import functools
import os
import re
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest

from chaos.disk import Disk, NoDisk
from jet.grants import inbox
from stack.control import Control
from stack.lock import is_up
from stack.settings import ACCOUNT, StackSettings, streams_in
from support.needs import ROOT
from support.waiting import STACK_HANG, eventually

ONLY_NATS = """
import sys
from stack import supervise
from stack.programs import programs
from stack.settings import read

supervise.programs = lambda settings: programs(settings)[:2]
sys.exit(supervise.up(read()))
"""


class Up:
    """A running foreground, and what it has said so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said = ""
        self._reading = asyncio.create_task(self._read())

    async def says(self, what: str) -> None:
        """Wait until it has said `what`."""
        await eventually(lambda: re.search(what, self.said) or self._reading.done(), STACK_HANG)
        assert re.search(what, self.said), self.said

    async def ends(self) -> int:
        """Wait until it has ended, and return its exit code."""
        await asyncio.wait_for(self._reading, STACK_HANG)
        return await self.process.wait()

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.said += line.decode()


@pytest.fixture
async def up(environ: dict[str, str], settings: StackSettings) -> AsyncIterator[Up]:
    """A foreground that is about to be ready. A blank in a path is no obstacle."""
    running = await start(environ)
    yield running
    if running.process.returncode is None:
        running.process.terminate()
        await running.ends()
    assert not is_up(settings)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", settings.stack.nats_port))


async def start(environ: dict[str, str], *, command: str = ONLY_NATS) -> Up:
    """Run `up` in a session of its own, as a terminal would."""
    return Up(
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            command,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environ,
            start_new_session=True,
        )
    )


async def stack(environ: dict[str, str], *arguments: str, folder: Path | None = None) -> tuple[int | None, str]:
    """Run one of the commands to its end: exit code and output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "stack",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environ,
        cwd=folder,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_everything_and_is_no_failure(up: Up, number: signal.Signals) -> None:
    """A Ctrl-C arrives several times when programs in between pass it on: that is still one request."""
    await up.says("everything is ready")
    for _ in range(3):
        os.killpg(up.process.pid, number)
    assert await up.ends() == 0
    assert "everything is stopped" in up.said
    assert "kill" not in up.said


async def test_down_stops_it_from_elsewhere_and_waits_until_it_is_down(
    up: Up, environ: dict[str, str], settings: StackSettings
) -> None:
    await up.says("everything is ready")
    assert await stack(environ, "down") == (0, "everything is stopped\n")
    assert not is_up(settings)
    assert await up.ends() == 0


async def test_it_says_where_everything_is(up: Up, settings: StackSettings) -> None:
    await up.says(f"nats +nats://127.0.0.1:{settings.stack.nats_port}")
    await up.says(f"The page is http://127.0.0.1:{settings.ports['ui']}/")


async def test_its_data_are_its_owners_alone_also_those_of_before(
    environ: dict[str, str], settings: StackSettings
) -> None:
    """Positions, keys and orders are nobody else's, and whoever may open a lock file may take the lock."""
    store = settings.data / ACCOUNT
    for folder in (settings.logs, settings.keys, store):
        folder.mkdir(parents=True, exist_ok=True)
    ours = ("stack.lock", "ledger.sqlite", "ledger.sqlite-wal", "plan.json", "logs/nats.log", "keys/maker.seed")
    for name in ours:
        (settings.data / name).touch()
    others = settings.data / "notes.txt"
    others.touch()
    for path in [settings.data, *settings.data.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    up = await start(environ)
    await up.says("everything is ready")
    up.process.terminate()
    assert await up.ends() == 0
    found = {path: stat.S_IMODE(path.lstat().st_mode) for path in [settings.data, *settings.data.rglob("*")]}
    assert found.pop(others) == 0o644, "what is not the stack's is left as it is"
    open_to_others = [path for path, mode in found.items() if mode & 0o077 and not path.is_symlink()]
    assert (open_to_others, len(found) > 20) == ([], True)


async def test_after_a_power_cut_that_left_keys_and_configurations_empty_it_starts(
    environ: dict[str, str], settings: StackSettings
) -> None:
    up = await start(environ)
    await up.says("everything is ready")
    up.process.terminate()
    assert await up.ends() == 0
    for path in [*settings.keys.iterdir(), settings.data / "plan.json", settings.data / "supervisord.conf"]:
        path.write_bytes(b"")
    assert (await stack(environ, "status"))[0] == 1
    again = await start(environ)
    await again.says("everything is ready")
    again.process.terminate()
    assert await again.ends() == 0


async def test_a_second_one_on_the_same_data_is_told_so_and_disturbs_nothing(up: Up, environ: dict[str, str]) -> None:
    await up.says("everything is ready")
    code, said = await stack(environ, "up")
    assert code == 1
    assert "already up" in said
    assert up.process.returncode is None


async def test_what_is_killed_is_restarted_and_told(up: Up, settings: StackSettings) -> None:
    await up.says("everything is ready")
    async with Control(settings.socket) as control:
        os.kill((await control.processes())["nats"].pid, signal.SIGKILL)
    await up.says(r"nats +restarted and ready again|nats +ended \(killed\)(.|\n)*ready again")


async def test_if_supervisord_dies_nothing_is_left_running(up: Up, settings: StackSettings) -> None:
    await up.says("everything is ready")
    os.kill(int((settings.data / "supervisord.pid").read_text()), signal.SIGKILL)
    assert await up.ends() == 1
    assert "supervisord died" in up.said


async def test_a_full_disk_does_not_end_it(environ: dict[str, str], settings: StackSettings) -> None:
    """No log can be written: neither those of the processes, nor supervisord's own, nor what it prints about that."""
    settings.logs.mkdir(parents=True)
    for name in ("nats.log", "prepare.log", "supervisord.log", "supervisord.out"):
        (settings.logs / name).symlink_to("/dev/full")
    up = await start(environ)
    await up.says("everything is ready")
    async with Control(settings.socket) as control:
        os.kill((await control.processes())["nats"].pid, signal.SIGKILL)
    await up.says(r"nats +restarted and ready again|nats +ended \(killed\)(.|\n)*ready again")
    up.process.terminate()
    await up.ends()


async def test_after_a_full_disk_has_room_again_nats_is_restarted_and_writes(
    environ: dict[str, str], settings: StackSettings
) -> None:
    ROOT.skip()
    disk = Disk(settings.data)
    try:
        disk.mount()
    except NoDisk as why:
        pytest.skip(f"there is no disk to fill: {why}")
    try:
        up = await start(environ)
        await up.says("everything is ready")
        seed = settings.stack.nats_seed("ledger")
        client = await nats.connect(settings.stack.url, nkeys_seed=str(seed), inbox_prefix=inbox("ledger"))
        publish = functools.partial(client.jetstream().publish, "positions.AAPL", b"x" * 100_000)
        await publish()
        disk.fill()
        with pytest.raises(nats.errors.TimeoutError):
            await publish(timeout=1)
        await up.says("waits for .*no space left")
        assert "restarted" not in up.said
        disk.free()
        await up.says("the disk has room again: it is restarted")
        await up.says("(?s)room again.*nats +(restarted and )?ready again")
        await client.close()
        client = await nats.connect(settings.stack.url, nkeys_seed=str(seed), inbox_prefix=inbox("ledger"))
        await client.jetstream().publish("positions.AAPL", b"x")
        await client.close()
        up.process.terminate()
        assert await up.ends() == 0
    finally:
        disk.unmount()


async def test_a_damaged_store_takes_no_more_memory_than_it_may_and_is_named(
    environ: dict[str, str], settings: StackSettings
) -> None:
    """A sequence in a block file that was changed makes the server go through all numbers up to it."""
    up = await start(environ)
    await up.says("everything is ready")
    seed = settings.stack.nats_seed("ledger")
    client = await nats.connect(settings.stack.url, nkeys_seed=str(seed), inbox_prefix=inbox("ledger"))
    for _ in range(2):
        await client.jetstream().publish("positions.AAPL", b"x" * 1000)
    await client.close()
    up.process.terminate()
    assert await up.ends() == 0
    block = streams_in(settings.data) / "POSITIONS" / "msgs" / "1.blk"
    with block.open("r+b") as file:
        length = int.from_bytes(file.read(4), "little") & 0x7FFFFFFF
        file.seek(length + 9)  # of the second record: its length, then its sequence in eight bytes
        file.write(b"\x20")
    little = ONLY_NATS.replace(
        "supervise.programs", "from stack import programs as of; of.MEMORY = 2 << 30\nsupervise.programs"
    )
    again = await start(environ, command=little)
    await again.says(r"nats .*POSITIONS cannot be restored, its store is damaged")
    code, told = await stack(environ, "status")
    assert code == 1
    assert 'see "A damaged store" in docs/operations.md' in told
    again.process.terminate()
    await again.ends()


async def test_if_the_foreground_is_killed_the_rest_stops_in_order(up: Up, settings: StackSettings) -> None:
    await up.says("everything is ready")
    up.process.kill()
    await up.ends()
    await eventually(lambda: not is_up(settings), STACK_HANG)


async def test_data_survives_and_what_contradicts_it_is_refused_in_plain_words(up: Up, environ: dict[str, str]) -> None:
    await up.says("everything is ready")
    up.process.terminate()
    assert await up.ends() == 0
    again = await start(environ | {"QS_MARKET_SHARDS": "2"})
    assert await again.ends() == 1
    assert "cannot be made as declared" in again.said
    assert "shards" in again.said


@pytest.mark.parametrize(("servers", "store"), [("1", "nats-1/jetstream"), ("3", "jetstream")])
async def test_data_of_another_number_of_nats_servers_is_refused(
    environ: dict[str, str], settings: StackSettings, servers: str, store: str
) -> None:
    """The ledgers would have applied more than the market log holds, and could never go on."""
    (settings.data / store).mkdir(parents=True)
    code, said = await stack(environ | {"QS_STACK_NATS_SERVERS": servers}, "up")
    assert code == 1
    assert "another number of NATS servers" in said
    assert not (settings.data / "supervisord.conf").exists()


async def test_a_taken_port_keeps_everything_from_starting(environ: dict[str, str], settings: StackSettings) -> None:
    with socket.create_server(("127.0.0.1", settings.ports["ledger"])):
        code, said = await stack(environ, "up")
    assert code == 1
    assert f"port {settings.ports['ledger']} is taken by process {os.getpid()}" in said
    assert "QS_LEDGER_PORT" in said
    assert not (settings.data / "supervisord.conf").exists()


@pytest.mark.parametrize("command", ["up", "status"])
async def test_outside_the_projects_folder_it_says_where_to_run(
    environ: dict[str, str], tmp_path: Path, command: str
) -> None:
    code, said = await stack(environ, command, folder=tmp_path)
    assert code == 2
    assert "run from the project's folder" in said
    assert "Traceback" not in said


async def test_a_path_that_supervisord_cannot_read_is_refused(environ: dict[str, str], tmp_path: Path) -> None:
    code, said = await stack(environ | {"QS_STACK_DATA_DIR": str(tmp_path / "100%")}, "up")
    assert code == 2
    assert "'%'" in said


async def test_when_nothing_is_up_every_command_says_so(environ: dict[str, str], settings: StackSettings) -> None:
    nothing = f"nothing is up on {settings.data}\n"
    assert await stack(environ, "status") == (1, nothing)
    assert await stack(environ, "down") == (0, nothing)
    assert await stack(environ, "wait", "--timeout", "0.1") == (1, nothing)


async def test_clean_data_removes_a_stacks_data_and_nothing_else(
    environ: dict[str, str], settings: StackSettings
) -> None:
    settings.data.mkdir()
    (settings.data / "precious").touch()
    assert (await stack(environ, "clean-data", "--yes"))[0] == 1
    assert (settings.data / "precious").exists()
    (settings.data / "stack.lock").touch()
    assert (await stack(environ, "clean-data", "--yes"))[0] == 0
    assert not settings.data.exists()


async def test_clean_data_refuses_while_the_stack_is_up(
    up: Up, environ: dict[str, str], settings: StackSettings
) -> None:
    await up.says("everything is ready")
    code, said = await stack(environ, "clean-data")
    assert code == 1
    assert "./qs down" in said
    assert settings.data.exists()
