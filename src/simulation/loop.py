"""The event loop of one simulated process: its callbacks in the order asyncio promises, its time the world's.

Each process has a loop of its own, so that a process can be paused or lost with everything that waits in it. A loop
runs nothing by itself: the world says which process is next, and what happens when nobody has anything to do.

Within a process callbacks run first in, first out, as asyncio documents. What the seed orders is who comes next, and in
which order things that became ready together are noticed.
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
    """A callback that waits to be run. `when` is its time, for a timer."""

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
        """Have it not run."""
        self.dropped = True
        self.args = ()

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self.dropped

    def when(self) -> float:
        """When it is due."""
        return self.when_due


class SimTask(asyncio.Task[Any]):
    """A task whose place in a set does not depend on its address."""

    def __init__(self, coro: Any, loop: "SimLoop", name: str | None, context: contextvars.Context | None) -> None:
        self.number = next(loop.numbers)
        super().__init__(coro, loop=loop, name=name or "", context=context)

    def __hash__(self) -> int:
        return self.number


class SimLoop(asyncio.AbstractEventLoop):
    """One process's loop.

    Attributes:
        process: whose it is.
        ready: what waits to be run.
        numbers: of its tasks.
    """

    def __init__(self, process: "Process") -> None:
        self.process = process
        self.ready: deque[Handle] = deque()
        self.numbers = itertools.count(1)
        self._world = process.world
        self._timer = process.timer  # bound once: there are many

    def time(self) -> float:
        """The world's time: it goes on while the process is paused."""
        return self._world.now

    def call_soon(  # type: ignore[override] # simpler
        self, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        """Have a callback run."""
        handle = Handle(callback, args, context)
        self.ready.append(handle)
        process = self.process
        if not process.queued:
            self._world.wake(process)
        return handle

    def call_later(  # type: ignore[override] # simpler
        self, delay: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        """Have a callback run after so many seconds."""
        world = self._world
        when = world.now + delay
        handle = Handle(callback, args, context, when)
        heappush(world.events, (when, next(world.numbers), self._timer, (handle,)))
        return handle

    def call_at(  # type: ignore[override] # simpler
        self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        """Have a callback run at a time of the loop."""
        handle = Handle(callback, args, context, when)
        self._world.at(when, self._timer, handle)
        return handle

    def create_future(self) -> Any:
        """A future."""
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, Any] | Coroutine[Any, Any, Any],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> Any:
        """A task."""
        return SimTask(coro, self, name, context)

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """Whether it is its turn."""
        return self._world.current is self.process

    def is_closed(self) -> bool:
        """Whether the process has ended."""
        return not self.process.alive

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What nobody caught: in a simulation that is a fault."""
        self.process.report_uncaught(context)
