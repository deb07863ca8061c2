"""One run, from starting the stack to the verdict."""

import asyncio
import contextlib
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec

from chaos import checker, report
from chaos.attacker import READERS, Attacker
from chaos.clients import client_outcomes
from chaos.clocks import Clocks, NoClocks
from chaos.cluster import Cluster
from chaos.definer import Definer
from chaos.disk import Disk, NoDisk
from chaos.faults import FaultInjector
from chaos.health_watch import HEALED_WITHIN, HealthWatch, NotHealed
from chaos.load import Load, Probe
from chaos.network import Network, NoNetwork
from chaos.notices import Notifier
from chaos.recovery import Recoveries
from chaos.sampling import Sampler
from chaos.schedule import NETWORK_KINDS, Fault, Kind, schedule
from chaos.service_proxies import ServiceProxies
from chaos.store_damage import StoreDamage
from chaos.system import LIMIT, System
from chaos.verification import Verification, errors_logged
from loadgen.history import History, read
from loadgen.plan import Plan
from loadgen.tally import Tally
from stack import keys
from stack.settings import listening
from ui.notices import Step
from wire import subjects

SETTLED_WITHIN = 1.5
"""After recovery, every order gets its outcome within this multiple of the time allowed for recovery."""

NOTIFY_EVERY = 0.2
"""Seconds between two updates of the page."""

LOAD_AFTER = 3.0
"""Seconds for which the load continues after the schedule."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of a run.

    Attributes:
        minutes: how long faults are injected.
        seed: the seed of faults and orders.
        rate: orders per second.
        kinds: the kinds of faults.
        targets: the processes that they may be injected into; empty for all.
        given: the faults themselves; empty to draw them from the seed.
        settings: further settings of the stack, as `QS_` variables without the prefix.
        healed_within: seconds after the last fault within which everything must have recovered.
        command: the command that repeats the run.
    """

    minutes: float
    seed: int
    rate: float
    kinds: tuple[Kind, ...]
    targets: tuple[str, ...] = ()
    given: tuple[Fault, ...] = ()
    settings: dict[str, str] = {}
    healed_within: float = HEALED_WITHIN
    command: str = ""


After = Callable[[report.Report], Coroutine[Any, Any, None]]
"""Runs between the verdict and the stack's stop. A cancellation ends only this, not the run."""

PrintProgress = Callable[[System, HealthWatch, Tally], Coroutine[Any, Any, None]]
"""Prints the progress of a run, until cancelled."""


class Run:
    """One run in one folder. `print_progress` runs from the first order until all orders have their outcomes."""

    def __init__(
        self, options: Options, folder: Path, print_progress: PrintProgress | None = None, after: After | None = None
    ) -> None:
        self._options = options
        self._print_progress = print_progress
        self._after = after
        self._folder = folder
        self._kinds = options.kinds
        self._skipped: dict[str, str] = {}
        self._disk = self._mount_disk()
        is_cluster = int(options.settings.get("STACK_NATS_SERVERS", 1)) > 1
        has_network = is_cluster and self._enter_network()
        notices = folder / "notices.json"
        self._notifier = Notifier(notices)
        self._system = System(folder, UI_NOTICES=notices, **options.settings)
        self._cluster = self._make_cluster() if is_cluster else None
        self._network = Network(self._system.cluster_ports) if has_network else None
        self._recoveries = Recoveries()
        self._clocks = self._make_clocks()
        self._proxies = self._make_proxies()
        self._store_damage = StoreDamage(self._system, self._cluster, print_line)
        self._attacker = self._make_attacker()
        self._faults = FaultInjector(
            self._system,
            self._recoveries,
            print_line,
            disk=self._disk,
            cluster=self._cluster,
            network=self._network,
            proxies=self._proxies,
            clocks=self._clocks,
            store_damage=self._store_damage,
        )
        self._health_watch = HealthWatch(self._system, self._recoveries, options.healed_within)
        self._findings = checker.Findings()
        self._healed: float | None = None
        self._step: Step = "trading"
        self._verification = Verification(
            self._system, self._health_watch, self._findings, folder, has_copies=is_cluster
        )

    def _mount_disk(self) -> Disk | None:
        if "disk-full" not in self._kinds:
            return None
        disk = Disk(self._folder / "data")
        try:
            disk.mount()
        except NoDisk as why:
            self._skip("disk-full", str(why))
            return None
        return disk

    def _enter_network(self) -> bool:
        """Enter a network namespace. True if that succeeded."""
        if "partition" not in self._kinds:
            return False
        try:
            Network.enter()
        except NoNetwork as why:
            self._skip("partition", str(why))
            return False
        return True

    def _make_clocks(self) -> Clocks | None:
        if "clock" not in self._kinds:
            return None
        try:
            clocks = Clocks(self._folder / "clocks", self._system.services)
        except NoClocks as why:
            self._skip("clock", str(why))
            return None
        for service in self._system.services:
            self._system.add_environment(service, clocks.environment(service))
        return clocks

    def _make_proxies(self) -> ServiceProxies | None:
        if not set(NETWORK_KINDS) & set(self._kinds):
            return None
        taken = [wanted.port for wanted in listening(self._system.settings)]
        servers = [server.port for server in self._system.settings.nats_servers]
        proxies = ServiceProxies(self._system.services, servers, taken)
        for service, port in proxies.ports.items():
            self._system.add_environment(service, {"QS_STACK_NATS_PORT": str(port)})
        return proxies

    def _make_attacker(self) -> Attacker | None:
        if "attacker" not in self._kinds:
            return None
        market, stack = self._system.settings.market, self._system.settings.stack
        seeds = {user: stack.nats_seed(user) for user in (*READERS, "auditor")}
        return Attacker(stack.url, seeds, list(market.symbols), market.shards, self._options.seed)

    def _skip(self, kind: Kind, why: str) -> None:
        self._skipped[kind] = why
        self._kinds = tuple(other for other in self._kinds if other != kind)

    def _make_cluster(self) -> Cluster:
        settings = self._system.settings
        keys.make(settings)  # so that the servers' monitoring addresses are known before the first start
        streams = subjects.streams(settings.market.shards)
        return Cluster(settings.stack.url, self._system.monitors, streams, settings.stack.nats_seed("auditor"))

    async def run(self) -> report.Report:
        """Carry out the run, and leave nothing running.

        Raises:
            NotStarted: the stack did not start.
        """
        if self._proxies is not None:
            async with self._proxies:
                return await self._from_start_to_end()
        return await self._from_start_to_end()

    async def _from_start_to_end(self) -> report.Report:
        clean = False
        try:
            await self._system.start()
            done = await self._run()
            clean = done.verdict == "clean"
            if self._after is not None:
                await self._until_cancelled(self._after(done))
            return done
        finally:
            self._faults.resume_all()
            await asyncio.shield(self._stop())
            if self._disk is not None:
                if not clean:
                    shutil.copytree(self._folder / "data", self._folder / "data-kept", ignore=_no_sockets)
                self._disk.unmount()

    @staticmethod
    async def _until_cancelled(work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None:
                task.uncancel()

    async def _stop(self) -> None:
        if self._system.started:
            code = await self._system.stop()
            print_line("", f"everything is stopped (code {code})")

    async def _run(self) -> report.Report:
        options, system = self._options, self._system
        targets = [target for target in system.targets if not options.targets or target in options.targets]
        streams = self._cluster.streams if self._cluster else ()
        drawn = schedule(options.seed, options.minutes * 60, targets, self._kinds, streams)
        faults = options.given or drawn
        history_file = self._folder / "history.jsonl"
        async with self._health_watch:
            await self._health_watch.until_started()
            print_line("", f"ready; {len(faults)} faults in {options.minutes * 60:.0f} s, {options.rate:g} orders/s")
            print_line("", f"to watch it: {system.addresses('ui')[0]}/")
            attacking = [self._attacker.run()] if self._attacker is not None else []
            sampler = Sampler(system.addresses("exposure"), system.addresses("exchange"), LIMIT)
            definer = Definer(system.addresses("exchange"), system.settings.market.symbols, options.seed)
            with History(history_file) as history:
                beside = [sampler.run(), definer.run(), self._notify(), *attacking, *self._health_watch.watchers()]
                async with self._alongside(*beside):
                    await self._trade(faults, history)
            await definer.compare()
            if self._attacker is not None:
                await self._attacker.find_leftovers()
            self._step = "auditing"
            self._notifier.progress(self._step, self._recoveries.all)
            orders = client_outcomes(read(history_file))
            log = await self._verification.compare(orders)
        print_line("", "auditing")
        samples = sampler.samples
        self._findings.refuted += [*samples.exceeded, *definer.findings]
        audit, audit_refuted = await self._verification.audit(report.RUNNING, history_file)
        log_errors = errors_logged(system.settings.logs)
        if self._cluster is not None and not audit_refuted:
            await self._stop()
            stored = ("--store", str(system.settings.data))
            audit, audit_refuted = await self._verification.audit(report.STOPPED, history_file, *stored)
        self._findings.refuted += self._faults.findings
        if self._attacker is not None:
            self._findings.refuted += [f"a reader's key: {what}" for what in self._attacker.findings]
        done = report.Report(
            verdict=report.verdict(self._findings, audit_refuted),
            command=options.command,
            seed=options.seed,
            minutes=options.minutes,
            faults=report.counts(self._faults.done),
            missed=report.counts(self._faults.missed),
            skipped=self._skipped,
            orders=checker.outcomes(orders),
            fills=sum(len(entry.content) for entry in log if isinstance(entry.content, list)),
            recovery=report.by_target(self._recoveries.all),
            healed_s=self._healed,
            rebuilt_s=self._faults.rebuilt,
            damage=dict(self._store_damage.ends),
            attacks=dict(sorted(self._attacker.sent.items())) if self._attacker is not None else {},
            attacks_refused=self._attacker.refused if self._attacker is not None else 0,
            copies=self._verification.copies,
            definitions=definer.acknowledged,
            samples=samples.taken,
            most_sampled=samples.most,
            most_shown=self._findings.most,
            lost=self._findings.lost,
            doubled=self._findings.doubled,
            unknown=self._findings.unknown,
            refuted=self._findings.refuted,
            audit=audit,
            invariants=self._verification.invariants,
            log_errors=log_errors,
        )
        self._notifier.end(done, self._recoveries.all)
        return done

    async def _notify(self) -> None:
        """Keep the page up to date, until cancelled."""
        while True:
            self._notifier.progress(self._step, self._recoveries.all)
            await asyncio.sleep(NOTIFY_EVERY)

    # --- injecting faults -------------------------------------------------------------------------------------------

    async def _trade(self, faults: Sequence[Fault], history: History) -> None:
        """Send orders while the schedule is carried out, wait for the recovery, and then for every order's outcome."""
        options, url = self._options, ",".join(self._system.addresses("exchange"))
        instruments = dict(self._system.settings.market.symbols)
        run_id = f"chaos-{options.seed}-{secrets.token_hex(3)}"
        duration = options.minutes * 60 + LOAD_AFTER
        plan = Plan(
            run_id=run_id,
            url=url,
            rate=options.rate,
            duration=duration,
            instruments=instruments,
            max_quantity=5,
            concurrency=64,
            aggressiveness=0.7,
            seed=options.seed,
        )
        async with AsyncExitStack() as stack:
            load = await stack.enter_async_context(Load(plan, history))
            probe = await stack.enter_async_context(Probe(run_id, url, instruments, history, self._recoveries))
            loading = asyncio.create_task(load.run())
            stack.callback(loading.cancel)
            printing = (
                [self._print_progress(self._system, self._health_watch, load.tally)] if self._print_progress else []
            )
            settled_within = SETTLED_WITHIN * self._options.healed_within
            async with self._alongside(*printing):
                async with self._alongside(probe.run()):
                    await self._inject_faults(faults)
                    await self._heal()
                try:
                    async with asyncio.timeout(settled_within):
                        await asyncio.gather(asyncio.shield(loading), probe.settle())
                except TimeoutError:
                    self._findings.refuted.append(f"orders had no outcome {settled_within:g} s after the recovery")
                    load.give_up()
                    probe.give_up()
                    await asyncio.wait([loading], timeout=10)
            print_line("", f"{load.tally.sent} orders sent, and {probe.sent} probes")

    async def _inject_faults(self, faults: Sequence[Fault]) -> None:
        """Carry out the schedule, or the part of it until the stack ends by itself."""
        until = time.monotonic() + self._options.minutes * 60 if self._attacker is not None else 0.0
        injecting = asyncio.create_task(self._inject_until(faults, until))
        while not injecting.done():
            await asyncio.wait([injecting], timeout=1.0)
            if self._system.ended and not self._store_damage.in_progress:
                self._findings.refuted.append(f"the stack ended by itself: {self._system.output()[-500:]}")
                injecting.cancel()
                await asyncio.wait([injecting])
        self._faults.resume_all()
        if not injecting.cancelled():
            injecting.result()

    async def _inject_until(self, faults: Sequence[Fault], until: float) -> None:
        await self._faults.run(faults)
        await asyncio.sleep(
            until - time.monotonic()
        )  # so that the attacker runs for the whole time, even without faults

    async def _heal(self) -> None:
        print_line("", "no more faults: waiting for recovery")
        self._step = "healing"
        try:
            self._healed = await self._health_watch.until_healed()
            print_line("", f"recovered after {self._healed:.1f} s")
        except NotHealed as why:
            self._findings.refuted.append(str(why))
            print_line("", str(why))

    @staticmethod
    @contextlib.asynccontextmanager
    async def _alongside(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
        """Run endless coroutines until the block ends. A failure of one ends the block."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
            yield
            for task in tasks:
                task.cancel()


def print_line(name: str, message: str) -> None:
    """Print one line of progress."""
    print(f"{time.strftime('%H:%M:%S')}  {name or 'chaos':<10} {message}", flush=True)


def _no_sockets(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(folder) / name).is_socket()]
