"""Processes that die at one suspension of one call, as by a crash there.

`python -m support.kill_at` imports every service once and forks one for each line it reads, so that starting one costs
milliseconds. It tells of each when it began and how it ended, and ends all of them when its input ends.

A call is a run of one coroutine function. Its k-th suspension is the k-th time that the whole chain of awaits below it
gives way to the event loop, so counting up finds all of them. What it has put out until then is still in the process's
own buffers; so there are two moments to die at each of them.
"""

import asyncio
import os
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import wraps
from importlib import import_module
from typing import Any, Literal

import msgspec
from nats.aio.transport import TcpTransport

from process.health import Health
from web.app import create_app

ENDED = 77
"""The exit code of a process whose call returned before its last suspension was reached: it died as abruptly."""

TAKEN = 0.05
"""Seconds that the broker gets to take what was sent, before the process dies without having read an answer."""

SERVICES = ("exchange", "exposure", "maker")


class Point(msgspec.Struct, frozen=True):
    """Where to die.

    Attributes:
        function: which coroutine function, as `module:Class.method`.
        where: in its first call whose arguments' representation contains this, and which does not fail.
        suspension: 1, 2, 3, …
        moment: `waiting`: before anything that the call has put out is sent; `sent`: once something was sent to the
            broker, before an answer is read. Either way before the call goes on.
    """

    function: str
    where: str
    suspension: int
    moment: Literal["waiting", "sent"]


class Start(msgspec.Struct, frozen=True):
    """A service to be forked: with these variables besides, its output into `output`."""

    service: str
    environ: dict[str, str]
    output: str
    point: Point | None = None


class ProcessReport(msgspec.Struct, frozen=True):
    """What is told of a process: it began, without a code, or it ended; a signal's code is negative."""

    pid: int
    code: int | None = None


def die() -> None:
    """End this process, without a chance to clean up."""
    os.kill(os.getpid(), signal.SIGKILL)


class _Watched:
    """A call that kills its process at its k-th suspension, or where it returns; not where it fails."""

    def __init__(self, call: Coroutine[Any, Any, Any], suspension: int, at: Callable[[], None]) -> None:
        self._call = call
        self._suspension = suspension
        self._at = at

    def __await__(self) -> Generator[Any, Any, Any]:
        suspended = 0
        thrown: BaseException | None = None
        while True:
            try:
                awaited = self._call.send(None) if thrown is None else self._call.throw(thrown)
            except StopIteration:
                os._exit(ENDED)
            thrown = None
            suspended += 1
            if suspended == self._suspension:
                self._at()
            try:
                yield awaited
            except BaseException as error:  # noqa: BLE001 # a cancellation, say, is the call's to handle
                thrown = error
            if suspended == self._suspension:
                die()


def arm(point: Point) -> None:
    """Have this process die at `point`."""
    module, _, name = point.function.partition(":")
    kind, _, method = name.partition(".")
    owner = getattr(import_module(module), kind)
    original: Callable[..., Coroutine[Any, Any, Any]] = getattr(owner, method)
    at = die if point.moment == "waiting" else _die_once_sent
    used = False

    @wraps(original)
    async def watched(*args: Any, **kwargs: Any) -> Any:
        nonlocal used
        if used or point.where not in repr((args[1:], kwargs)):
            return await original(*args, **kwargs)
        used = True
        try:
            return await _Watched(original(*args, **kwargs), point.suspension, at)
        finally:
            used = False  # it failed: that was not the way

    setattr(owner, method, watched)


def _die_once_sent() -> None:
    """Die as soon as something was sent to the broker."""
    loop = asyncio.get_running_loop()
    original: Callable[[Any], Awaitable[None]] = TcpTransport.drain

    def look(transport: asyncio.WriteTransport) -> None:
        if transport.get_write_buffer_size():
            loop.call_soon(look, transport)
            return
        time.sleep(TAKEN)  # nothing else must run: an answer is not to be read
        die()

    async def drain(self: Any) -> None:
        await original(self)
        look(self._io_writer.transport)

    TcpTransport.drain = drain  # type: ignore[method-assign] # in a process that is about to die


# --- forking ----------------------------------------------------------------------------------------------------------


def _fork(start: Start) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        output = os.open(start.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for target, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
            os.dup2(source, target)
        os.environ.update(start.environ)
        if start.point is not None:
            arm(start.point)
        runpy.run_module(start.service, run_name="__main__")
        code = 0
    except Exception:  # noqa: BLE001 # whatever it is, the output is where it is looked for
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(code)


def _send(report: ProcessReport) -> None:
    os.write(1, msgspec.json.encode(report) + b"\n")


def main() -> None:
    """Fork what is asked for on the standard input, until it ends."""
    running: set[int] = set()

    def reap(*_: object) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            running.discard(pid)
            _send(ProcessReport(pid, os.waitstatus_to_exitcode(status)))

    for service in SERVICES:
        for part in ("service", "api"):
            import_module(f"{service}.{part}")
    import_module("web.serve")
    create_app(title="", description="", health=Health(""), routes=[])  # imports most of what there is
    signal.signal(signal.SIGCHLD, reap)
    for line in iter(sys.stdin.buffer.readline, b""):
        start = msgspec.json.decode(line, type=Start)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        pid = _fork(start)
        running.add(pid)
        _send(ProcessReport(pid))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for pid in running:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
