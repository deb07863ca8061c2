"""The event loop of one simulated process: callbacks run in the order that asyncio promises, in the world's time.

Each process has its own loop, so that it can be paused or killed with everything that waits in it. A loop runs nothing
by itself: the world decides which process is next, and what happens when no process has anything to do.

Within a process, callbacks run first in, first out, as asyncio documents. The seed decides which process is next, and
in which order events that became ready together are noticed.
"""

import asyncio
import contextvars
import itertools
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from heapq import heappush
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulation.world import Process


class Handle:
    """A callback that is to be run. For a timer, `when_due` is its time."""

    __slots__ = ("args", "callback", "context", "dropped", "when_due")

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context | None,
        when: float = 0.0,
    ) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.when_due = when
        self.dropped = False

    def cancel(self) -> None:
        """Do not run the callback."""
        self.dropped = True
        self.args = ()

    def cancelled(self) -> bool:
        """True if it was cancelled."""
        return self.dropped

    def when(self) -> float:
        """Return when it is due."""
        return self.when_due


class SimTask(asyncio.Task[Any]):
    """A task with a hash that does not depend on its address, so that sets of tasks have the same order in each run."""

    def __init__(self, coro: Any, loop: "SimLoop", name: str | None, context: contextvars.Context | None) -> None:
        self.number = next(loop.numbers)
        super().__init__(coro, loop=loop, name=name or "", context=context)

    def __hash__(self) -> int:
        return self.number


class SimLoop(asyncio.AbstractEventLoop):
    """The event loop of one process.

    Attributes:
        process: the process.
        ready: the callbacks to be run next.
        numbers: where the numbers of its tasks come from.
    """

    def __init__(self, process: "Process") -> None:
        self.process = process
        self.ready: deque[Handle] = deque()
        self.numbers = itertools.count(1)
        self._world = process.world
        self._timer = process.timer  # bound once: there are many

    def time(self) -> float:
        """Return the world's time, which also passes while the process is paused."""
        return self._world.now

    def call_soon(  # type: ignore[override] # simpler
        self, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        """Run a callback soon."""
        handle = Handle(callback, args, context)
        self.ready.append(handle)
        process = self.process
        if not process.queued:
            self._world.wake(process)
        return handle

    def call_later(  # type: ignore[override] # simpler
        self, delay: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        """Run a callback after `delay` seconds."""
        world = self._world
        when = world.now + delay
        handle = Handle(callback, args, context, when)
        heappush(world.events, (when, next(world.numbers), self._timer, (handle,)))
        return handle

    def call_at(  # type: ignore[override] # simpler
        self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        """Run a callback at a time of the loop."""
        handle = Handle(callback, args, context, when)
        self._world.at(when, self._timer, handle)
        return handle

    def create_future(self) -> Any:
        """Return a new future."""
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, Any] | Coroutine[Any, Any, Any],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> Any:
        """Return a new task."""
        return SimTask(coro, self, name, context)

    def get_debug(self) -> bool:
        """Return False: debug mode is never on."""
        return False

    def is_running(self) -> bool:
        """True while the process has its turn."""
        return self._world.current is self.process

    def is_closed(self) -> bool:
        """True if the process has ended."""
        return not self.process.alive

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Report an uncaught exception, which fails the run."""
        self.process.report_uncaught(context)
