"""Injects the plan's faults, and undoes them."""

from collections.abc import Callable
from functools import partial

from simulation.disk import DISK
from simulation.network import Latency
from simulation.plan import Fault
from simulation.system import Instance, System


class Nemesis:
    """Injects faults.

    Attributes:
        done: how many were injected, by kind.
    """

    def __init__(self, system: System) -> None:
        self.done: dict[str, int] = {}
        self._system = system
        self._ended = False
        self._undo: dict[int, Callable[[], None]] = {}

    def schedule(self, faults: list[Fault], start: float) -> None:
        """Schedule faults, whose times count from `start`, in seconds of the world."""
        for fault in faults:
            self._system.world.at(start + fault.at, self._begin, fault)

    def end(self) -> None:
        """Inject no more faults, and undo all that last."""
        self._ended = True
        for undo in list(self._undo.values()):
            undo()
        self._undo.clear()
        self._system.broker.lose_acks = self._system.broker.delay_next = 0
        for session in self._system.broker.sessions:
            session.lose = 0
        for instance in self._system.instances.values():
            if instance.client is not None:
                instance.client.fuse = 0
            if instance.process is not None:
                instance.process.resume()

    def _begin(self, fault: Fault) -> None:
        if self._ended:
            return
        undo = self._do(fault)
        self.done[fault.kind] = self.done.get(fault.kind, 0) + 1
        self._system.world.trace.add("FAULT", fault.kind, fault)
        if undo is not None:
            self._undo[fault.number] = undo
            self._system.world.after(fault.seconds, self._finish, fault)

    def _finish(self, fault: Fault) -> None:
        undo = self._undo.pop(fault.number, None)
        if undo is not None:
            undo()
            self._system.world.trace.add("FAULT", "over", fault)

    def _do(self, fault: Fault) -> Callable[[], None] | None:
        """Inject a fault. Return what undoes it, if anything does."""
        system = self._system
        if fault.target in system.instances:
            return self._do_to(fault, system.instances[fault.target])
        if fault.target:
            undo = [self._do_to(fault, instance) for instance in system.of(fault.target)]
            return partial(_do_all, [each for each in undo if each is not None])
        broker = system.broker
        match fault.kind:
            case "broker-kill":
                if not broker.up:
                    return None
                broker.crash(unsynced=0.01)
                return self._start_broker
            case "broker-tail":
                if not broker.up:
                    return None
                broker.crash(keeps=system.rng.random(), unsynced=system.rng.choice((0.0, 0.05, 5.0, 50.0)))
                return self._start_broker
            case "broker-pause":
                if broker.paused or not broker.up:
                    return None
                system.pause_broker()
                return broker.resume
            case "broker-full":
                broker.disk.full = True
                return self._make_room
            case "broker-slow":
                if broker.disk.sync is not system.sync:
                    return None
                broker.disk.sync = _slower(system.sync, fault.amount)
                return lambda: setattr(broker.disk, "sync", system.sync)
            case "lost-ack":
                broker.lose_acks += int(fault.amount)
            case "server-cut":
                if broker.cluster.isolated is not None:
                    return None
                broker.cut_server(int(3 * fault.amount), system.rng.uniform(4.0, 6.0))
                return broker.heal_server
            case "election":
                broker.change_leader(min(fault.seconds, 5.0))
            case "late":
                broker.delay_next += int(fault.amount)
                broker.delay = fault.seconds
                broker.delay_only = system.rng.choice(("", "fills.", "quotes.", "exposure.decisions"))
        return None

    def _start_broker(self) -> None:
        if not self._system.broker.up:
            self._system.broker.start()

    def _make_room(self) -> None:
        """Free the disk. The broker can write again only after a restart."""
        broker = self._system.broker
        broker.disk.full = False
        if broker.up:
            broker.crash()
            self._system.world.after(0.3, self._start_broker)

    def _do_to(self, fault: Fault, instance: Instance) -> Callable[[], None] | None:
        system, process = self._system, instance.process
        match fault.kind:
            case "kill":
                instance.kill()
            case "power":
                instance.kill()
                system.disk_of(instance.name).cut_power()
            case "fuse":
                self._light_fuse(fault, instance, instance.kill)
            case "freeze":
                self._light_fuse(fault, instance, partial(self._freeze, instance, fault))
            case "lost":
                for session in instance.sessions():
                    session.lose = int(fault.amount)
            case "pause":
                if process is None or process.paused:
                    return None
                process.pause()
                return process.resume
            case "restart":
                instance.stop()
            case "reset":
                for session in instance.sessions():
                    system.broker.close(session)
            case "cut" | "mute" | "deaf":
                if instance.name in system.unreachable:
                    return None
                system.cut(instance, up=fault.kind != "deaf", down=fault.kind != "mute")
                return lambda: system.heal(instance)
            case "web-cut" | "web-deaf":
                names = system.web.cut if fault.kind == "web-cut" else system.web.deaf
                if instance.name in names:
                    return None
                names.add(instance.name)
                return lambda: names.discard(instance.name)
            case "disk-full":
                disk = system.disk_of(instance.name)
                disk.full = True
                return lambda: setattr(disk, "full", False)
            case "disk-slow":
                disk = system.disk_of(instance.name)
                disk.latency, usual = _slower(DISK, fault.amount), DISK
                return lambda: setattr(disk, "latency", usual)
            case "clock-step":
                instance.clock.set(instance.clock.skew + fault.amount)
                return partial(instance.clock.set, 0.0)
            case "clock-drift":
                instance.clock.set(instance.clock.skew, fault.amount)
                return partial(instance.clock.set, 0.0)
        return None

    def _light_fuse(self, fault: Fault, instance: Instance, end: Callable[[], None]) -> None:
        """Have a process end or pause at one of its next messages: right before or after that message is sent."""
        if instance.client is not None and instance.process is not None:
            instance.client.fuse = abs(int(fault.amount))
            instance.client.fuse_on = fault.on
            instance.client.on_fuse = end
            instance.client.sends_last = fault.amount > 0

    def _freeze(self, instance: Instance, fault: Fault) -> None:
        process = instance.process
        if process is not None and not process.paused and not self._ended:
            process.pause()
            self._system.world.after(fault.seconds, process.resume)


def _do_all(calls: list[Callable[[], None]]) -> None:
    for call in calls:
        call()


def _slower(latency: Latency, factor: float) -> Latency:
    return Latency(latency.least * factor, latency.spread * factor)
