"""`stack up`: run supervisord in the foreground, report what happens, and shut down in order.

supervisord is our child in its own session, so that Ctrl-C reaches only us: we send it a SIGTERM, and it stops
everything in reverse order. If we die, the kernel sends it a SIGTERM. If it dies, its processes become our children,
and we end them.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import stat
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from jet.link import redacted
from process import durable
from process.clock import utc_now
from process.installation import COMMAND, bundled_file
from process.settings import KEYS, SettingsError
from stack import keys, ports, process_tree, record
from stack.config import FORBIDDEN_IN_PATHS, stop_deadline, supervisord_conf
from stack.console import Console
from stack.control import Control, NotRunning
from stack.lock import hold_lock
from stack.nats_restart import NatsRestart
from stack.observe import Observer
from stack.phases import Condition, Phase
from stack.programs import Program, programs, save_plan
from stack.settings import ACCOUNT, EARLIER, NATS_CONFIG, STORE, StackSettings, is_earlier, listening
from stack.settings import read as read_settings
from stack.tokens import FOLDER as TOKENS

POLL = 0.25
"""Seconds between two observations of the processes."""

KILL_PATIENCE = 6.0
"""Seconds that the processes of a dead supervisord may take to stop before they are killed."""


OUTPUT_TAIL = 2000
"""Bytes at the end of supervisord's output that are printed if it dies."""

SAME_REQUEST = 1.0
"""Seconds after the first signal within which another is taken for the same request; a later one means to hurry."""


OURS = (
    "stack.lock",
    "*.json*",
    "supervisord.*",
    "*.sqlite*",
    KEYS,
    TOKENS,
    "logs",
    STORE,
    "nats-*",
)
"""The stack's files in its data folder. Each start makes them private to their owner; other files are left alone."""


class CannotStart(Exception):  # noqa: N818 # a state, not an error
    """The stack cannot be started; the message tells a person why."""


def up(settings: StackSettings, alter: Callable[[Program], Program] = lambda program: program) -> int:
    """Run the stack until it is stopped. Return the exit code.

    Args:
        settings: the stack's settings.
        alter: a function that replaces each program before it is run.

    Raises:
        SettingsError, AlreadyUp, CannotStart: nothing was started.
    """
    os.umask(0o077)  # all files that we and our children create are private to their owner
    _make_folders(settings)
    with hold_lock(settings) as lock:
        _check(settings)
        if settings.nats_servers:
            _move_to_account(settings)
            keys.make(settings)
        plan = [alter(program) for program in programs(settings)]
        conf = settings.data / "supervisord.conf"
        durable.write(conf, supervisord_conf(settings, plan))
        save_plan(settings, plan)
        stores = [server.folder / STORE for server in settings.nats_servers]
        is_new = bool(stores) and not any(store.is_dir() for store in stores)
        record.append_if_changed(settings.data, settings.market, record.ALWAYS if is_new else utc_now())
        process_tree.adopt_orphans()
        try:
            code = asyncio.run(_Foreground(settings, plan).run(conf, lock))
        finally:
            process_tree.end_children(KILL_PATIENCE)
        print_line("", "everything is stopped")
        return code


def _make_folders(settings: StackSettings) -> None:
    """Create the data folder, and make it and our files in it private: they contain positions, keys and tokens."""
    try:
        durable.make_folder(settings.data)
        durable.make_folder(settings.logs)
        for name in OURS:
            for found in settings.data.glob(name):
                durable.make_private(found)
        if settings.socket.parent != settings.data:
            _make_private(settings.socket.parent)
    except OSError as error:
        raise SettingsError(
            f"{error.filename or settings.data}: {error.strerror}; QS_STACK_DATA_DIR names another data folder"
        ) from error


def _make_private(folder: Path) -> None:
    """Create a private folder where anybody may create one.

    Raises:
        SettingsError: it is a link, or another user's.
    """
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise SettingsError(
            f"{folder} belongs to another user; set QS_STACK_DATA_DIR to a data folder with a shorter path"
        )
    folder.chmod(0o700)


def _check(settings: StackSettings) -> None:
    """Check that the stack can start, before anything is started."""
    from stack import services  # imports every service, which no other command needs

    services.check()
    for text in FORBIDDEN_IN_PATHS:
        if text in str(settings.data) or text in str(settings.folder):
            raise SettingsError(f"supervisord cannot read a path that contains {text!r}, such as {settings.data}")
    if settings.nats_servers and not bundled_file(settings.folder, NATS_CONFIG).is_file():
        raise SettingsError(f"{NATS_CONFIG}: No such file; run from the project's folder")
    if not settings.nats_servers:
        keys.check(settings)
    _check_store(settings)
    if refusals := ports.unavailable(listening(settings)):
        raise CannotStart("\n".join(refusals))


def _check_store(settings: StackSettings) -> None:
    """Refuse data that another number of NATS servers has written: the ledgers would find an empty market log."""
    folders = {server.folder / STORE for server in settings.nats_servers}
    others = [folder for folder in (settings.data / STORE, settings.data / "nats-1" / STORE) if folder not in folders]
    if folders and any(folder.is_dir() for folder in others):
        raise CannotStart(
            f"{settings.data} holds the data of another number of NATS servers than {len(folders)}: set "
            f"QS_STACK_DATA_DIR to another folder, or delete this one with `{COMMAND} clean-data`"
        )


def _move_to_account(settings: StackSettings) -> None:
    """Move the data of an earlier version without accounts into the services' account. A cluster cannot do that."""
    for server in settings.nats_servers:
        if len(settings.nats_servers) == 1 and is_earlier(server.folder):
            (server.folder / EARLIER).rename(server.folder / ACCOUNT)
            durable.sync_folder(server.folder / STORE)


def banner(settings: StackSettings, plan: Sequence[Program]) -> str:
    """Return the lines printed at the start: the market, the address of each process, and the next commands."""
    market = settings.market
    addresses = [f"  {program.name:<10} {program.address}" for program in plan if program.address]
    if not settings.nats_servers:
        addresses.insert(0, f"  {'nats':<10} {redacted(settings.stack.url)} (not started here)")
    return "\n".join(
        [
            f"Quotestream: {len(market.symbols)} symbols, at most {market.limit} lots a side; data in {settings.data}",
            *addresses,
            f"The page is {settings.address('ui')}/ ; each service describes its HTTP API at /schema.",
            f"From another terminal: `{COMMAND} status`, `logs`, `watch 'fills.>'`, `audit`. Ctrl-C stops everything.",
            "",
        ]
    )


def print_line(name: str, message: str) -> None:
    """Print one line on a process, or on the whole stack if the name is empty."""
    print(f"{datetime.now().astimezone():%H:%M:%S}  {name or 'stack':<10} {message}", flush=True)


class _Foreground:
    """Runs supervisord, and prints what happens to the stack."""

    def __init__(self, settings: StackSettings, plan: Sequence[Program]) -> None:
        self._settings = settings
        self._plan = plan
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._stop_requested_at = 0.0
        self._pids: set[int] = set()
        self._code = 0

    async def run(self, conf: Path, lock: int) -> int:
        """Start supervisord, report what happens, and stop it on request. Return the exit code."""
        self._handle_signals()
        print(banner(self._settings, self._plan), flush=True)
        supervisord = await _start_supervisord(conf, lock)
        output = asyncio.create_task(_output_tail(supervisord))
        ended = asyncio.create_task(supervisord.wait())
        stop_requested = asyncio.create_task(self._stop.wait())
        observing = asyncio.create_task(self._observe())
        await asyncio.wait([ended, stop_requested, observing], return_when=asyncio.FIRST_COMPLETED)
        stop_requested.cancel()
        if not ended.done():
            await self._shut_down(supervisord, ended)
        observing.cancel()
        await asyncio.wait([observing])
        if not observing.cancelled():
            observing.result()  # it ends only by an exception, which this raises
        if ended.result():
            print_line("", f"supervisord died ({ended.result()}); ending its processes {await output}".strip())
            self._code = 1
        return self._code

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._request_stop)
        loop.add_signal_handler(signal.SIGTERM, self._request_stop)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it on purpose
            loop.add_signal_handler(signal.SIGHUP, self._request_stop)

    def _request_stop(self) -> None:
        """Stop, or hurry if a stop was requested before.

        One Ctrl-C may arrive several times: from the terminal, and from each program in between that forwards it.
        """
        now = asyncio.get_running_loop().time()
        if not self._stop.is_set():
            self._stop_requested_at = now
        elif now - self._stop_requested_at > SAME_REQUEST:
            self._hurry.set()
        self._stop.set()

    async def _shut_down(self, supervisord: asyncio.subprocess.Process, ended: "asyncio.Task[int]") -> None:
        """Stop everything in order. After the deadline, or to hurry, kill supervisord; its processes end afterwards.

        `_observe` continues meanwhile for a side effect: supervisord checks its processes at each query, and otherwise
        only once a second.
        """
        print_line("", "stopping everything")
        supervisord.terminate()
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait([ended, hurry], timeout=stop_deadline(self._plan), return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not ended.done():
            print_line("", "killing what has not stopped")
            supervisord.kill()
        await ended

    async def _observe(self) -> None:
        """Observe all processes again and again, print what is new, and restart NATS after its disk was full."""
        console, nats_restart = Console(), NatsRestart()
        loop = asyncio.get_running_loop()
        async with Control(self._settings.socket) as control, Observer(control, self._plan, self._settings) as observer:
            while True:
                try:
                    conditions = await observer.observe()
                except NotRunning:
                    conditions = []  # it is starting or stopping
                if not self._stop.is_set():
                    self._report(console.lines(conditions, loop.time()), conditions)
                    self._restart_nats(nats_restart, conditions)
                await asyncio.sleep(POLL)

    def _report(self, news: Sequence[tuple[str, str]], conditions: Sequence[Condition]) -> None:
        for name, message in news:
            print_line(name, message)
        pids = {condition.pid for condition in conditions if condition.pid}
        if pids - self._pids:  # a new process has read the current settings
            self._pids |= pids
            with contextlib.suppress(SettingsError):  # the process reports it
                record.append_if_changed(self._settings.data, read_settings().market, utc_now())
        for condition in conditions:
            if condition.phase is Phase.REFUSED:
                log = self._settings.logs / f"{condition.program.name}.log"
                print_line(condition.program.name, log.read_text().strip().splitlines()[-1])
                self._code = 1
                self._stop.set()

    def _restart_nats(self, nats_restart: NatsRestart, conditions: Sequence[Condition]) -> None:
        for condition in nats_restart.to_restart(conditions, shutil.disk_usage(self._settings.data).free):
            print_line(condition.program.name, "could not write, and the disk has room again: it is restarted")
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(condition.pid, signal.SIGTERM)


async def _start_supervisord(conf: Path, lock: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "supervisor.supervisord",
        "-c",
        str(conf),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        env=process_tree.environment(os.environ),
        pass_fds=(lock,),
        preexec_fn=process_tree.die_with_parent,
    )


async def _output_tail(supervisord: asyncio.subprocess.Process) -> str:
    """Read supervisord's output until it ends, and return the end of the output.

    supervisord prints when it cannot write a log. Its output must not be a file: on a full disk, supervisord could not
    write there either, and would die.
    """
    assert supervisord.stdout is not None  # noqa: S101 # for the type checker: it is a pipe
    output = b""
    while chunk := await supervisord.stdout.read(4096):
        output = (output + chunk)[-OUTPUT_TAIL:]
    return output.decode(errors="replace").strip()
