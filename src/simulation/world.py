"""Virtual time, and the processes that share it: one seed, one order of events.

Time moves only when no process has anything to do, to the next event in the queue. Events are timers of processes,
messages that arrive, and faults. An event runs at one instant; what it makes ready runs before time goes on, unless the
seed says that the process is busy for a while.

All randomness comes from the seed, in streams of its own for each purpose, so that a fault that is left out when a
failure is shrunk does not change what the network does.
"""

import asyncio
import inspect
import itertools
import random
from asyncio import _set_running_loop
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from typing import Any

from simulation.loop import Handle, SimLoop
from simulation.trace import Trace

EPOCH = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
"""When a simulation begins, by a clock that is right."""


class Stalled(Exception):  # noqa: N818 # names what happened
    """The simulation goes round in circles: more steps at one instant than anything could need."""


STEPS = 2_000_000
"""Turns of processes at one instant after which they are believed to go round in circles."""


class Clock:
    """A machine's clocks: how they differ from the right time. `skew` in seconds, `drift` in seconds a second.

    Both are driven by one oscillator. The one that tells the time can be set; the steady one only ever goes on.
    """

    def __init__(self, world: "World", skew: float = 0.0) -> None:
        self._world = world
        self._skew = skew
        self._since = world.now
        self._drift = 0.0
        self._gained = 0.0  # by the steady clock, when the drift was last changed

    @property
    def skew(self) -> float:
        """By how many seconds it is ahead."""
        return self._skew + self._drift * (self._world.now - self._since)

    @property
    def steady(self) -> float:
        """Seconds on the clock that is never set."""
        return self._world.now + self._gained + self._drift * (self._world.now - self._since)

    def set(self, skew: float, drift: float = 0.0) -> None:
        """Step it so that it is ahead by `skew`, and let it drift from there."""
        self._gained = self.steady - self._world.now
        self._skew, self._drift, self._since = skew, drift, self._world.now

    def __call__(self) -> datetime:
        """The time it tells."""
        return EPOCH + timedelta(seconds=self._world.now + self.skew)


class Process:
    """One run of a program: from its start until it ends, is killed, or the simulation is over.

    Attributes:
        name: of the program's instance; several processes bear it, one after another.
        loop: its event loop.
        clock: its machine's.
        random: where its randomness comes from.
        alive: it has not ended.
        paused: it stands still. `stands`: it does, or has ended.
        queued: it is among those whose turn it may be, or it must not be.
        main: its task; the process ends with it.
    """

    def __init__(self, world: "World", name: str, clock: Clock, incarnation: int) -> None:
        self.world = world
        self.name = name
        self.clock = clock
        self.random = random.Random(f"{world.seed}/{name}/{incarnation}")
        self.incarnation = incarnation
        self.timer = self._timer  # bound once: there are many
        self.loop = SimLoop(self)  # type: ignore[abstract] # nothing here asks for what it lacks
        self.alive = True
        self.paused = False
        self.halted = False
        self.queued = False
        self.main: asyncio.Task[None] | None = None
        self.on_end: list[Callable[[], None]] = []
        self._backlog: list[tuple[bool, Handle]] = []

    def start(self, main: Coroutine[Any, Any, None], ended: "Callable[[Process, BaseException | None], None]") -> None:
        """Run a program; `ended` is told when it ends by itself, and of what."""

        def done(task: "asyncio.Task[None]") -> None:
            if not self.alive:
                return
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            self.end()
            ended(self, error)

        def begin() -> None:
            self.main = self.loop.create_task(main)
            self.main.add_done_callback(done)

        self.loop.call_soon(begin)

    def _timer(self, handle: Handle) -> None:
        if handle.dropped:
            return
        if self.halted:
            self.soon(handle, timer=True)
        else:
            self.loop.ready.append(handle)
            if not self.queued:
                self.world.wake(self)

    def soon(self, handle: Handle, *, timer: bool = False) -> None:
        """Something from outside, or a timer, makes a callback ready."""
        if self.paused:
            self._backlog.append((timer, handle))
        elif self.alive:
            self.loop.ready.append(handle)
            if not self.queued:
                self.world.wake(self)

    def pause(self) -> None:
        """Stand still, as by SIGSTOP."""
        self.paused = self.halted = True
        self.queued = True  # so that nobody queues it

    def resume(self) -> None:
        """Go on. What became ready meanwhile is noticed in one of the orders in which an event loop may look."""
        if not self.paused or not self.alive:
            return
        self.paused = self.halted = False
        self.queued = False
        order = self.world.order.randrange(3)
        if order:
            self._backlog.sort(key=lambda entry: entry[0] is (order == 1))
        self.loop.ready.extend(handle for _, handle in self._backlog if not handle.dropped)
        self._backlog.clear()
        if self.loop.ready:
            self.world.wake(self)

    def end(self) -> None:
        """End at once, as by SIGKILL: nothing of it runs any more, and what it sends from now on goes nowhere."""
        if not self.alive:
            return
        self.alive = False
        self.halted = True
        self.queued = True  # so that nobody queues it
        self.world.ended_processes.append(self)
        for task in asyncio.all_tasks(self.loop):
            coroutine = task.get_coro()
            if inspect.iscoroutine(coroutine) and inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
                coroutine.close()  # else Python warns that nobody awaited it
        self.loop.ready.clear()
        self._backlog.clear()
        for call in self.on_end:
            call()

    def report_uncaught(self, context: dict[str, Any]) -> None:
        """What nobody caught."""
        if self.alive:
            error = context.get("exception")
            self.world.uncaught.append(f"{self.name}: {context.get('message')}: {error!r}")
            self.world.trace.add(self.name, "uncaught", f"{context.get('message')}: {error!r}")


class World:
    """Time, order and chance.

    Attributes:
        now: seconds since the beginning.
        events: what happens when: time, number, call and arguments, as a heap. `numbers` is where numbers come from.
        seed: where all randomness comes from.
        current: the process whose turn it is.
        order: rng for who comes next; `network` for the network and `faults` for what goes wrong.
        uncaught: exceptions that nobody caught, for people.
        steps: turns of processes so far.
        ended_processes: processes that ended; kept so that nothing of them is collected, and thus run, in between.
    """

    def __init__(self, seed: int | str, trace: Trace) -> None:
        self.seed = seed
        self.now = 0.0
        self.trace = trace
        self.current: Process | None = None
        self.order = random.Random(f"{seed}/order")
        self.network = random.Random(f"{seed}/network")
        self.faults = random.Random(f"{seed}/faults")
        self.uncaught: list[str] = []
        self.ended_processes: list[Process] = []
        self.steps = 0
        self.busy = 0.0
        self.busy_for = 0.0
        self._runnable: list[Process] = []
        self._running: Process | None = None  # whose loop is the running one, as asyncio has it
        self._still = 0  # turns at this instant
        self._stopped = False
        self.events: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self.numbers = itertools.count(1)
        trace.world = self

    def at(self, when: float, call: Callable[..., object], *args: Any) -> None:
        """Have something happen at a time."""
        heappush(self.events, (when, next(self.numbers), call, args))

    def after(self, seconds: float, call: Callable[..., object], *args: Any) -> None:
        """Have something happen after so many seconds."""
        heappush(self.events, (self.now + seconds, next(self.numbers), call, args))

    def wake(self, process: Process) -> None:
        """A process has something to do."""
        process.queued = True
        self._runnable.append(process)

    def stop(self) -> None:
        """Have `run` end between this instant and the next."""
        self._stopped = True

    def _end_busy(self, process: Process) -> None:
        if process.alive and not process.paused:
            process.queued = False
            if process.loop.ready:
                self.wake(process)

    def run(self, until: float) -> None:
        """Go on until a time, or until `stop` is called.

        Raises:
            Stalled: processes go round in circles.
        """
        runnable, events, rng, turn = self._runnable, self.events, self.order.random, self._turn
        while True:
            self._still = 0
            while runnable:
                process = runnable.pop()
                if runnable:
                    index = int(rng() * (len(runnable) + 1))
                    if index < len(runnable):
                        process, runnable[index] = runnable[index], process
                if not process.halted:
                    turn(process)
                if self._still > STEPS:
                    raise Stalled(f"{self._still} turns at {self.now:.6f} s, the last of {process.name}")
            if self._stopped or not events:
                self._stopped = False
                return
            if events[0][0] > until:
                self.now = until
                return
            when, _, call, args = heappop(events)
            if when > self.now:
                self.now = when
            call(*args)

    def _turn(self, process: Process) -> None:
        """Let a process run what is ready, and what that makes ready, until there is nothing more or another one's turn
        may have come."""
        ready, runnable = process.loop.ready, self._runnable
        popleft = ready.popleft
        self.current = process
        if self._running is not process:
            self._running = process
            _set_running_loop(process.loop)
        while True:
            self.steps += 1
            self._still += 1
            for _ in range(len(ready)):
                handle = popleft()
                if handle.dropped:
                    continue
                try:
                    context = handle.context
                    if context is None:
                        handle.callback(*handle.args)
                    else:
                        context.run(handle.callback, *handle.args)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:  # noqa: BLE001 # as an event loop does: it is told, and life goes on
                    process.report_uncaught({"message": f"exception in {handle.callback!r}", "exception": error})
                if process.halted:
                    self.current = None
                    return
            if not ready or runnable or process.paused or self.busy or self._still > STEPS:
                break
        self.current = None
        if process.paused:
            return
        if self.busy and self.order.random() < self.busy:
            self.after(self.order.expovariate(1 / self.busy_for), self._end_busy, process)
            return
        process.queued = False
        if ready:
            self.wake(process)

    def leave(self) -> None:
        """No process of this world runs any more."""
        self.current = self._running = None
        _set_running_loop(None)
