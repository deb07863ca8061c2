"""Virtual time, and the processes that share it: one seed, one order of events.

Time moves only when no process has anything to do, and then to the next event in the queue. Events are timers of
processes, arriving messages, and faults. An event runs at one instant. Callbacks that it makes ready run before time
moves on, unless the seed makes the process busy for a while.

All randomness comes from the seed, with a generator for each purpose. So leaving out a fault, when a failure is shrunk,
does not change what the network does.
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
"""The time at which a simulation begins, by a correct clock."""


class Stalled(Exception):  # noqa: N818 # names what happened
    """The simulation is in an endless loop: it made more steps at one instant than anything could need."""


STEPS = 2_000_000
"""Turns of processes at one instant after which the simulation counts as stalled."""


class Clock:
    """A machine's two clocks, as differences from the true time: `skew` in seconds, `drift` in seconds per second.

    One oscillator drives both. The clock of the time of day can be set; the monotonic one only moves forward.
    """

    def __init__(self, world: "World", skew: float = 0.0) -> None:
        self._world = world
        self._skew = skew
        self._since = world.now
        self._drift = 0.0
        self._gained = 0.0  # by the monotonic clock, when the drift was last changed

    @property
    def skew(self) -> float:
        """By how many seconds the clock of the time of day is ahead."""
        return self._skew + self._drift * (self._world.now - self._since)

    @property
    def monotonic(self) -> float:
        """Seconds on the monotonic clock, which is never set."""
        return self._world.now + self._gained + self._drift * (self._world.now - self._since)

    def set(self, skew: float, drift: float = 0.0) -> None:
        """Step the clock so that it is `skew` seconds ahead, and let both clocks drift from now on."""
        self._gained = self.monotonic - self._world.now
        self._skew, self._drift, self._since = skew, drift, self._world.now

    def __call__(self) -> datetime:
        """Return the time of day by this clock."""
        return EPOCH + timedelta(seconds=self._world.now + self.skew)


class Process:
    """One run of a program, from its start until it ends or is killed, or the simulation ends.

    Attributes:
        name: the instance's name, which all its processes share.
        incarnation: the number of this process of the instance.
        loop: its event loop.
        clock: its machine's clock.
        random: the generator of its randomness.
        alive: it has not ended.
        paused: it is stopped, as by SIGSTOP.
        halted: it is paused or has ended.
        queued: it is in the queue of runnable processes, or must not enter it.
        main: its main task; the process ends with it.
        on_end: called when it ends.
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
        """Run a program. If it ends by itself, `ended` is called with the exception that ended it."""

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
        """Make a callback ready, because of a timer or of something outside."""
        if self.paused:
            self._backlog.append((timer, handle))
        elif self.alive:
            self.loop.ready.append(handle)
            if not self.queued:
                self.world.wake(self)

    def pause(self) -> None:
        """Stop, as by SIGSTOP."""
        self.paused = self.halted = True
        self.queued = True  # so that it is not queued

    def resume(self) -> None:
        """Continue, as by SIGCONT. Callbacks that became ready meanwhile run in an order that an event loop may use."""
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
        """End at once, as by SIGKILL: none of its code runs any more."""
        if not self.alive:
            return
        self.alive = False
        self.halted = True
        self.queued = True  # so that it is not queued
        self.world.ended_processes.append(self)
        for task in asyncio.all_tasks(self.loop):
            coroutine = task.get_coro()
            if inspect.iscoroutine(coroutine) and inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
                coroutine.close()  # otherwise Python warns that it was never awaited
        self.loop.ready.clear()
        self._backlog.clear()
        for call in self.on_end:
            call()

    def report_uncaught(self, context: dict[str, Any]) -> None:
        """Report an uncaught exception."""
        if self.alive:
            error = context.get("exception")
            self.world.uncaught.append(f"{self.name}: {context.get('message')}: {error!r}")
            self.world.trace.add(self.name, "uncaught", f"{context.get('message')}: {error!r}")


class World:
    """Virtual time, the order of events, and randomness.

    Attributes:
        now: seconds since the beginning.
        events: future events, as a heap: time, number, function and arguments.
        numbers: where the numbers of events come from.
        seed: the source of all randomness.
        current: the process that has its turn.
        order: the random generator that decides which process is next.
        network: the random generator of the network.
        uncaught: uncaught exceptions, as text.
        steps: how many turns processes have had.
        busy: the share of turns after which a process is busy.
        busy_for: how many seconds it is then busy, on average.
        ended_processes: kept so that Python does not collect their tasks, which would run code, during the simulation.
    """

    def __init__(self, seed: int | str, trace: Trace) -> None:
        self.seed = seed
        self.now = 0.0
        self.trace = trace
        self.current: Process | None = None
        self.order = random.Random(f"{seed}/order")
        self.network = random.Random(f"{seed}/network")
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
        """Call something at a time."""
        heappush(self.events, (when, next(self.numbers), call, args))

    def after(self, seconds: float, call: Callable[..., object], *args: Any) -> None:
        """Call something after so many seconds."""
        heappush(self.events, (self.now + seconds, next(self.numbers), call, args))

    def wake(self, process: Process) -> None:
        """Queue a process that has something to do."""
        process.queued = True
        self._runnable.append(process)

    def stop(self) -> None:
        """Have `run` return at the end of this instant."""
        self._stopped = True

    def _end_busy(self, process: Process) -> None:
        if process.alive and not process.paused:
            process.queued = False
            if process.loop.ready:
                self.wake(process)

    def run(self, until: float) -> None:
        """Run until a time, or until `stop` is called.

        Raises:
            Stalled: processes are in an endless loop.
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
        """Let a process run its ready callbacks, and those that they make ready, until there are none or another
        process may have its turn."""
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
                except BaseException as error:  # noqa: BLE001 # as in an event loop: it is reported, and the loop goes on
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
        """Unset the running event loop: no process of this world runs any more."""
        self.current = self._running = None
        _set_running_loop(None)
