"""Processes that die at one suspension of one call, as if they crashed there.

`python -m support.kill_at` imports every service once, and forks one for each line of its input, so that starting one
takes milliseconds. It reports the start and the end of each, and kills all of them at the end of its input.

A call is one execution of a coroutine function. Its k-th suspension is the k-th time that it yields to the event loop,
through the whole chain of awaits below it; so counting up finds all suspensions. At each of them, what the call has
written may still be in the process's own buffers, or may have been sent; so there are two moments to die.
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
"""The exit code of a process whose call returned before the given suspension; it dies just as abruptly."""

TAKEN = 0.05
"""Seconds that the broker gets to receive what was sent, before the process dies without having read a reply."""

SERVICES = ("exchange", "exposure", "maker")


class Point(msgspec.Struct, frozen=True):
    """The point at which to die.

    Attributes:
        function: the coroutine function, as `module:Class.method`.
        where: a text in the representation of the call's arguments; the first such call that does not fail is meant.
        suspension: the number of the suspension: 1, 2, 3, …
        moment: `waiting`: before anything that the call has written is sent; `sent`: after something was sent to the
            broker, and before a reply is read. In both cases, before the call continues.
    """

    function: str
    where: str
    suspension: int
    moment: Literal["waiting", "sent"]


class Start(msgspec.Struct, frozen=True):
    """A service to fork, with additional variables, and a file for its output."""

    service: str
    environ: dict[str, str]
    output: str
    point: Point | None = None


class ProcessReport(msgspec.Struct, frozen=True):
    """A report on a process: it began if `code` is None, or else it ended. The code is negative after a signal."""

    pid: int
    code: int | None = None


def die() -> None:
    """Kill this process, without a chance to clean up."""
    os.kill(os.getpid(), signal.SIGKILL)


class _Watched:
    """A call that kills its process at its k-th suspension, or when it returns, but not when it fails."""

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
            except BaseException as error:  # noqa: BLE001 # the call itself handles it, for example a cancellation
                thrown = error
            if suspended == self._suspension:
                die()


def arm(point: Point) -> None:
    """Make this process die at `point`."""
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
            used = False  # the call failed, so a later one is meant

    setattr(owner, method, watched)


def _die_once_sent() -> None:
    """Die as soon as something was sent to the broker."""
    loop = asyncio.get_running_loop()
    original: Callable[[Any], Awaitable[None]] = TcpTransport.drain

    def die_if_sent(transport: asyncio.WriteTransport) -> None:
        if transport.get_write_buffer_size():
            loop.call_soon(die_if_sent, transport)
            return
        time.sleep(TAKEN)  # block the event loop, so that no reply is read
        die()

    async def drain(self: Any) -> None:
        await original(self)
        die_if_sent(self._io_writer.transport)

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
    except Exception:  # noqa: BLE001 # any error belongs in the output
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(code)


def _send(report: ProcessReport) -> None:
    os.write(1, msgspec.json.encode(report) + b"\n")


def main() -> None:
    """Fork the services that are requested on the standard input, until it ends."""
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
    create_app(title="", description="", health=Health(""), routes=[])  # imports most of the rest
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
