"""The whole system: a broker, and all processes of all services. A process that ends is restarted.

Each instance is assembled as in the service's own `__main__`, but without HTTP: clients call what the routes call.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from exchange.service import Exchange
from exposure.service import ExposureService, ExposureSettings
from jet import definition_log, topology
from jet.connection import Connection
from jet.grants import grants
from ledger.service import PARTS, Ledger, LedgerSettings
from maker.service import Maker, MakerSettings
from process.health import Health
from process.settings import Market, Stack
from simulation.broker import Broker
from simulation.client import SimClient
from simulation.disk import LedgerDisk
from simulation.loop import Handle
from simulation.network import Latency
from simulation.plan import Plan
from simulation.sessions import Session
from simulation.web import Web
from simulation.world import Clock, Process, World
from wire.definitions import changes

STOP_DEADLINE = 4.5
"""Seconds a process may take to stop in order; then it is killed."""

STALE = (2.0, 3.1)
"""Seconds, from and to, after which a client gives up a silent broker: it pings every second, and tolerates two
unanswered pings."""

Service = Exchange | ExposureService | Ledger | Maker


class Instance:
    """One instance of a service, which is a series of processes.

    Attributes:
        name: such as `maker-1`.
        kind: the service, which is also its user on the broker.
        number: its number among the instances of the service, from 0.
        clock: its machine's clock.
        process: the present process; None while it is down.
        service: the object that runs in the process.
        health: the process's health.
        client: the process's NATS client.
        incarnations: how many processes there were.
        started: when the present process was started, in seconds of the world.
        stopping: the present process is being stopped in order.
        failures: when and why processes ended by themselves.
    """

    def __init__(self, system: "System", name: str, kind: str, number: int) -> None:
        self.name = name
        self.kind = kind
        self.number = number
        self.system = system
        self.clock = Clock(system.world)
        self.process: Process | None = None
        self.service: Any = None
        self.health = Health(kind)
        self.client: SimClient | None = None
        self.incarnations = 0
        self.started = 0.0
        self.stopping = False
        self.failures: list[tuple[float, str]] = []

    def start(self) -> None:
        """Start a process, unless one runs."""
        if self.process is not None or self.system.ended:
            return
        self.incarnations += 1
        self.started = self.system.world.now
        self.stopping = False
        world = self.system.world
        process = self.process = Process(world, self.name, self.clock, self.incarnations)
        self.client = SimClient(process, self.system.broker, self.kind, self._reaches)
        parts = {"exchange": ("market",), "exposure": ("reservations", "market"), "ledger": PARTS[1:]}
        more = parts.get(self.kind, ("positions", "market", "switch"))
        self.health = Health(self.kind, "nats", *more)
        world.trace.add(self.name, "starts", f"incarnation {self.incarnations}")
        process.on_end.append(self._gone)
        process.start(self._main(), self._ended)

    def _reaches(self) -> bool:
        return self.name not in self.system.unreachable

    async def _main(self) -> None:
        assert self.client is not None  # noqa: S101 # for the type checker: `start` has made it
        connection = Connection("nats://simulated", self.kind, self.health, client=self.client)
        self.service = self._make(connection)
        await self.service.run()
        raise RuntimeError("the service's loops ended by themselves")

    def _make(self, connection: Connection) -> Service:
        market, stack, clock = self.system.market, self.system.stack, self.clock
        match self.kind:
            case "exchange":
                return Exchange(market, connection, self.health, clock)
            case "exposure":
                return ExposureService(ExposureSettings(market=market, stack=stack), connection, self.health, clock)
            case "ledger":
                settings = LedgerSettings(market=market, stack=stack, database=Path(f"{self.name}.sqlite"))
                return Ledger(settings, connection, self.health, clock)
            case _:
                return Maker(
                    MakerSettings(market=market, stack=stack, standby_delay=0.5), connection, self.health, clock
                )

    def _gone(self) -> None:
        for lock in self.system.folder.glob(f"{self.name}*.lock"):
            lock.unlink()
        self.process = None

    def _ended(self, process: Process, error: BaseException | None) -> None:
        """Handle the end of a process that ended by itself."""
        why = _reasons(error)
        if not self.stopping:
            self.failures.append((self.system.world.now, why))
        self.system.world.trace.add(self.name, "ended", why)
        self.system.schedule_start(self)
        del process

    def kill(self) -> None:
        """Kill the process; it is restarted soon."""
        if self.process is not None:
            self.system.world.trace.add(self.name, "killed")
            self.process.end()
            self.system.schedule_start(self)

    def stop(self) -> None:
        """Stop the process in order; it is restarted soon."""
        process = self.process
        if process is None or self.stopping or process.main is None:
            return
        self.stopping = True
        self.system.world.trace.add(self.name, "stops")
        process.soon(Handle(self._stop, (process,), None))
        self.system.world.after(STOP_DEADLINE, self._give_up, process)

    def _stop(self, process: Process) -> None:
        async def stopping() -> None:
            main = process.main
            if self.service is not None:
                await self.service.stop()
            while main is not None and not main.done():
                main.cancel()
                await asyncio.wait([main], timeout=0.3)

        process.loop.create_task(stopping())

    def _give_up(self, process: Process) -> None:
        if self.process is process and process.alive:
            self.kill()

    def sessions(self) -> list[Session]:
        """Return its connections to the broker, including those that it has given up but the broker has not."""
        return [session for session in self.system.broker.sessions if session.process.name == self.name]


def _reasons(error: BaseException | None) -> str:
    """Describe an exception, including all members of a group."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_reasons(member) for member in error.exceptions)
    return repr(error)


class System:
    """The broker and all instances.

    Attributes:
        folder: contains the databases.
        ended: nothing is restarted any more.
        unreachable: names of processes that cannot connect to the broker.
        sync: how long the broker's disk usually takes.
        rng: decides when processes are restarted, and what some faults do.
    """

    def __init__(self, world: World, plan: Plan, folder: Path) -> None:
        self.world = world
        self.plan = plan
        self.market: Market = plan.market
        self.folder = folder
        self.stack = Stack(data_dir=folder)
        self.ended = False
        self.unreachable: set[str] = set()
        latency = Latency(plan.least, plan.spread)
        self.broker = Broker(world, latency, grants(plan.shards), plan.replicas)
        self.sync = self.broker.disk.sync = Latency(plan.sync / 2, plan.sync / 2)
        self.disks: dict[str, LedgerDisk] = {}
        self.instances = {name: Instance(self, name, kind, number) for name, kind, number in plan.instances()}
        self.web = Web(world, Latency(plan.least, plan.spread), self._serving)
        self.rng = random.Random(f"{plan.seed}/supervisor")

    def _serving(self, name: str) -> tuple[Process, Any] | None:
        instance = self.instances[name]
        if instance.process is None or instance.service is None:
            return None
        return instance.process, instance.service

    def disk_of(self, name: str) -> LedgerDisk:
        """Return the disk of a process."""
        return self.disks.setdefault(name, LedgerDisk())

    def of(self, kind: str) -> list[Instance]:
        """Return the instances of a service."""
        return [instance for instance in self.instances.values() if instance.kind == kind]

    def begin_program(
        self,
        name: str,
        main: Callable[[Connection], Coroutine[Any, Any, None]],
        user: str,
        on_end: Callable[[Process, BaseException | None], None],
    ) -> Process:
        """Start a program in a process with its own connection; `on_end` is called when it ends."""
        process = Process(self.world, name, Clock(self.world), 1)
        client = SimClient(process, self.broker, user, lambda: True)

        async def program() -> None:
            async with Connection("nats://simulated", user, Health(name), client=client) as connection:
                await main(connection)

        process.start(program(), on_end)
        return process

    def run_program(
        self, name: str, main: Callable[[Connection], Coroutine[Any, Any, None]], user: str, seconds: float
    ) -> None:
        """Run a program in a process with its own connection, until it returns.

        Raises:
            TimeoutError: it has not returned after so many seconds.
        """
        ended: list[BaseException | None] = []

        def on_end(_: Process, error: BaseException | None) -> None:
            ended.append(error)
            self.world.stop()

        process = self.begin_program(name, main, user, on_end)
        until = self.world.now + seconds
        self.world.run(until)
        while not ended and self.world.events and self.world.now < until:
            self.world.run(until)
        if not ended:
            process.end()
            raise TimeoutError(f"{name} is not done after {seconds} s")
        if ended[0] is not None:
            raise ended[0]

    def prepare(self) -> None:
        """Create the streams, and start all instances."""
        market = self.market

        async def make(connection: Connection) -> None:
            shape = topology.Shape(
                market.shards, market.replicas, market.max_bytes, market.id_window, market.reservation_life
            )
            await topology.prepare(connection, shape)
            await definition_log.define(connection, lambda known: changes(known, market.terms, market.symbols))

        self.run_program("prepare", make, "operator", 30.0)
        for instance in self.instances.values():
            self.world.after(self.rng.random() / 2, instance.start)

    def schedule_start(self, instance: Instance) -> None:
        """Restart an instance after a short time, as supervisord does."""
        self.world.after(self.rng.uniform(0.1, 0.8), instance.start)

    # --- faults of the network ----------------------------------------------------------------------------------------

    def cut(self, instance: Instance, *, up: bool, down: bool) -> None:
        """Hold all messages between a process and the broker, in one direction or both."""
        self.unreachable.add(instance.name)
        for session in instance.sessions():
            if up:
                session.up.hold()
            if down:
                session.down.hold()
            self.world.after(self.rng.uniform(*STALE), self._stale, session)

    def heal(self, instance: Instance) -> None:
        """Deliver all messages again."""
        self.unreachable.discard(instance.name)
        for session in instance.sessions():
            session.down.release()
            session.up.release()

    def _stale(self, session: Session) -> None:
        """Have the client give up its connection, if that is still silent."""
        if session.up.held or session.down.held or (self.broker.paused and session.open):
            client: SimClient = session.client
            client.stale(session)

    def pause_broker(self) -> None:
        """Pause the broker. Clients give up their connections after a while."""
        self.broker.pause()
        for session in self.broker.sessions:
            self.world.after(self.rng.uniform(*STALE), self._stale, session)
