"""`stack up`: supervisord in the foreground, told about in plain words, and its orderly end.

supervisord is a child of ours in a session of its own, so that a Ctrl-C reaches us alone: we ask it to stop, and it
stops everything in reverse order. If we die, the kernel asks it to stop. If it dies, its processes become our children,
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
from stack.config import UNREADABLE, stop_deadline, supervisord_conf
from stack.console import Console
from stack.control import Control, NotRunning
from stack.lock import hold_lock
from stack.nats_restart import NatsRestart
from stack.observe import Observer
from stack.phases import Condition, Phase
from stack.programs import Program, keep_plan, programs
from stack.settings import ACCOUNT, EARLIER, NATS_CONFIG, STORE, StackSettings, is_earlier, listening
from stack.settings import read as read_settings
from stack.tokens import FOLDER as TOKENS

POLL = 0.25
"""Seconds between two looks at the processes."""

KILL_PATIENCE = 6.0
"""Seconds that what a dead supervisord left behind may take to stop before it is killed."""


LAST_WORDS = 2000
"""Bytes of what supervisord printed last that are told if it dies."""

SAME_REQUEST = 1.0
"""Seconds within which a signal only repeats the request to stop; after that it says to hurry."""


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
"""What a stack keeps in its data folder: made its owner's alone at each start, and nothing else that may be there."""


class CannotStart(Exception):  # noqa: N818 # says what is so
    """The stack cannot be started; the message says why, for a person."""


def up(settings: StackSettings, alter: Callable[[Program], Program] = lambda program: program) -> int:
    """Run the stack until it is told to stop. Returns the exit code.

    Args:
        settings: of the stack.
        alter: makes of each program what is run in its place.

    Raises:
        SettingsError, AlreadyUp, CannotStart: nothing was started.
    """
    os.umask(0o077)  # whatever is made from here on, by us and by what we start, is its owner's alone
    _make_folders(settings)
    with hold_lock(settings) as lock:
        _check(settings)
        if settings.nats_servers:
            _give_account(settings)
            keys.make(settings)
        plan = [alter(program) for program in programs(settings)]
        conf = settings.data / "supervisord.conf"
        durable.write(conf, supervisord_conf(settings, plan))
        keep_plan(settings, plan)
        stores = [server.folder / STORE for server in settings.nats_servers]
        is_new = bool(stores) and not any(store.is_dir() for store in stores)
        record.keep(settings.data, settings.market, record.ALWAYS if is_new else utc_now())
        process_tree.adopt_orphans()
        try:
            code = asyncio.run(_Foreground(settings, plan).run(conf, lock))
        finally:
            process_tree.end_children(KILL_PATIENCE)
        print_line("", "everything is stopped")
        return code


def _make_folders(settings: StackSettings) -> None:
    """Make the data folder and what is in it its owner's alone: it holds positions, keys and tokens."""
    try:
        durable.make_folder(settings.data)
        durable.make_folder(settings.logs)
        for name in OURS:
            for found in settings.data.glob(name):
                durable.make_private(found)
        if settings.socket.parent != settings.data:
            _make_own(settings.socket.parent)
    except OSError as error:
        raise SettingsError(
            f"{error.filename or settings.data}: {error.strerror}; QS_STACK_DATA_DIR names another data folder"
        ) from error


def _make_own(folder: Path) -> None:
    """Make a folder where anybody may make one. One that somebody else has made there, or a link, is not used."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise SettingsError(
            f"{folder} belongs to somebody else; QS_STACK_DATA_DIR names a data folder with a shorter path"
        )
    folder.chmod(0o700)


def _check(settings: StackSettings) -> None:
    """Find what would keep the stack from starting, before anything is started."""
    from stack import services  # imports every service, which no other command needs

    services.check()
    for unreadable in UNREADABLE:
        if unreadable in str(settings.data) or unreadable in str(settings.folder):
            raise SettingsError(f"supervisord cannot read a path with {unreadable!r} in it, as {settings.data} has")
    if settings.nats_servers and not bundled_file(settings.folder, NATS_CONFIG).is_file():
        raise SettingsError(f"{NATS_CONFIG}: No such file; run from the project's folder")
    if not settings.nats_servers:
        keys.check(settings)
    _check_store(settings)
    if refusals := ports.unavailable(listening(settings)):
        raise CannotStart("\n".join(refusals))


def _check_store(settings: StackSettings) -> None:
    """Refuse data that was written by another number of NATS servers: the ledgers would find an empty market log."""
    folders = {server.folder / STORE for server in settings.nats_servers}
    others = [folder for folder in (settings.data / STORE, settings.data / "nats-1" / STORE) if folder not in folders]
    if folders and any(folder.is_dir() for folder in others):
        raise CannotStart(
            f"{settings.data} holds the data of another number of NATS servers than {len(folders)}: QS_STACK_DATA_DIR "
            f"names another folder, and `{COMMAND} clean-data` removes this one"
        )


def _give_account(settings: StackSettings) -> None:
    """Have what a server alone stored while there were no accounts be the services'. A cluster cannot do that."""
    for server in settings.nats_servers:
        if len(settings.nats_servers) == 1 and is_earlier(server.folder):
            (server.folder / EARLIER).rename(server.folder / ACCOUNT)
            durable.sync_folder(server.folder / STORE)


def banner(settings: StackSettings, plan: Sequence[Program]) -> str:
    """What runs where."""
    market = settings.market
    places = [f"  {program.name:<10} {program.address}" for program in plan if program.address]
    if not settings.nats_servers:
        places.insert(0, f"  {'nats':<10} {redacted(settings.stack.url)} (not ours)")
    return "\n".join(
        [
            f"Quotestream: {len(market.symbols)} symbols, at most {market.limit} lots a side; data in {settings.data}",
            *places,
            f"The page is {settings.address('ui')}/ ; each service describes its HTTP API at /schema.",
            f"From another terminal: `{COMMAND} status`, `logs`, `watch 'fills.>'`, `audit`. Ctrl-C stops everything.",
            "",
        ]
    )


def print_line(name: str, message: str) -> None:
    """One line of the foreground."""
    print(f"{datetime.now().astimezone():%H:%M:%S}  {name or 'stack':<10} {message}", flush=True)


class _Foreground:
    """What a person sees of a running stack."""

    def __init__(self, settings: StackSettings, plan: Sequence[Program]) -> None:
        self._settings = settings
        self._plan = plan
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._asked_at = 0.0
        self._pids: set[int] = set()
        self._code = 0

    async def run(self, conf: Path, lock: int) -> int:
        """Start supervisord, tell what happens, stop it when asked to. Returns the exit code."""
        self._take_signals()
        print(banner(self._settings, self._plan), flush=True)
        supervisord = await _supervisord(conf, lock)
        words = asyncio.create_task(_log_tail(supervisord))
        ended = asyncio.create_task(supervisord.wait())
        asked = asyncio.create_task(self._stop.wait())
        narration = asyncio.create_task(self._narrate())
        await asyncio.wait([ended, asked, narration], return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if not ended.done():
            await self._end(supervisord, ended)
        narration.cancel()
        await asyncio.wait([narration])
        if not narration.cancelled():
            narration.result()  # it never ends by itself: this raises why it did
        if ended.result():
            print_line("", f"supervisord died ({ended.result()}); what it left is ended {await words}".strip())
            self._code = 1
        return self._code

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._asked)
        loop.add_signal_handler(signal.SIGTERM, self._asked)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it on purpose
            loop.add_signal_handler(signal.SIGHUP, self._asked)

    def _asked(self) -> None:
        """One Ctrl-C may come several times: from the terminal, and from each program in between that passes it on."""
        now = asyncio.get_running_loop().time()
        if not self._stop.is_set():
            self._asked_at = now
        elif now - self._asked_at > SAME_REQUEST:
            self._hurry.set()
        self._stop.set()

    async def _end(self, supervisord: asyncio.subprocess.Process, ended: "asyncio.Task[int]") -> None:
        """Stop in order; out of patience, or asked twice, kill supervisord: what it leaves is ended after that.

        The narration goes on meanwhile, for its effect: supervisord looks at its processes when someone asks, and
        otherwise once a second.
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

    async def _narrate(self) -> None:
        console, remedy = Console(), NatsRestart()
        loop = asyncio.get_running_loop()
        async with Control(self._settings.socket) as control, Observer(control, self._plan, self._settings) as observer:
            while True:
                try:
                    conditions = await observer.observe()
                except NotRunning:
                    conditions = []  # it starts, or it stops
                if not self._stop.is_set():
                    self._report(console.lines(conditions, loop.time()), conditions)
                    self._mend(remedy, conditions)
                await asyncio.sleep(POLL)

    def _report(self, news: Sequence[tuple[str, str]], conditions: Sequence[Condition]) -> None:
        for name, message in news:
            print_line(name, message)
        pids = {condition.pid for condition in conditions if condition.pid}
        if pids - self._pids:  # what was started has read the settings as they are now
            self._pids |= pids
            with contextlib.suppress(SettingsError):  # it says so itself
                record.keep(self._settings.data, read_settings().market, utc_now())
        for condition in conditions:
            if condition.phase is Phase.REFUSED:
                log = self._settings.logs / f"{condition.program.name}.log"
                print_line(condition.program.name, log.read_text().strip().splitlines()[-1])
                self._code = 1
                self._stop.set()

    def _mend(self, remedy: NatsRestart, conditions: Sequence[Condition]) -> None:
        for condition in remedy.to_restart(conditions, shutil.disk_usage(self._settings.data).free):
            print_line(condition.program.name, "could not write, and the disk has room again: it is restarted")
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself meanwhile
                os.kill(condition.pid, signal.SIGTERM)


async def _supervisord(conf: Path, lock: int) -> asyncio.subprocess.Process:
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


async def _log_tail(supervisord: asyncio.subprocess.Process) -> str:
    """Read what supervisord prints, until it ends, and return the end of that.

    It prints whenever it cannot write a log. That must not go to a file: with the disk full it could not print either,
    and would die of it.
    """
    assert supervisord.stdout is not None  # noqa: S101 # for the type checker: it is a pipe
    words = b""
    while chunk := await supervisord.stdout.read(4096):
        words = (words + chunk)[-LAST_WORDS:]
    return words.decode(errors="replace").strip()
