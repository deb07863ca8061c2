"""The course of one run: the system works while things go wrong; then it must come to rest as it should be; then it is
audited."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from audit import run as auditing
from audit.epochs import always
from audit.findings import Verdict
from audit.report import Report
from jet.connection import Connection
from loadgen.flow import orders
from simulation import leftovers
from simulation.clients import Clients
from simulation.faults import Nemesis
from simulation.oracles import QUOTES, Monitor
from simulation.plan import Plan
from simulation.system import Instance, System
from simulation.trace import Trace
from simulation.world import EPOCH, World
from wire.errors import Refused

READY = 30.0
"""Virtual seconds the system may take to start, before anything goes wrong."""

REQUOTED = 1.5
"""Seconds until a quote follows from a new definition, when nothing goes wrong and messages take no time."""

MESSAGES = 40
"""At most so many messages follow one another until then, those that are late or refused and sent again among them."""

RECOVERY = 60.0
"""Virtual seconds the system may take to be as it should be once nothing goes wrong any more, beside a quote's life."""

SWITCHED = 15.0
"""Virtual seconds after which a pause or a resume that was acknowledged must show everywhere."""

PATIENT = 12.0
"""Virtual seconds for which nothing that is under way may be so, once nothing goes wrong any more."""

EXPECTED_ENDS = ("OperationalError",)
"""Why a process may end by itself: its disk failed."""


_HOPELESS: dict[str, Decimal] = {"buy": Decimal("0.01"), "sell": Decimal(100_000)}
"""Limits at which nothing executes."""


class Found(Exception):  # noqa: N818 # names what happened
    """Something is wrong: the run ends."""


class Course:
    """One run.

    Attributes:
        wrong: what must not be.
    """

    def __init__(self, plan: Plan, trace: Trace, folder: Path) -> None:
        self.plan = plan
        self.world = World(plan.seed, trace)
        self.world.busy, self.world.busy_for = plan.busy, plan.busy_for
        self.folder = folder
        self.system = System(self.world, plan, folder)
        self.monitor = Monitor(self.world, plan.limit, plan.quote_ttl, plan.grace, plan.market.symbols)
        self.system.broker.on_store.append(self.monitor.stored)
        self.system.broker.on_rewind.append(self.monitor.rewound)
        self.clients = Clients(self.system, folder, self.monitor)
        self.monitor.backing.lone = self._is_lone
        self.nemesis = Nemesis(self.system)
        self.wrong: list[str] = []
        self.granted: list[bytes] = []
        self.report: Report | None = None

    def _is_lone(self, since: datetime) -> bool:
        """Whether one exchange has run alone since a time, and nothing went wrong so far."""
        exchanges = self.system.of("exchange")
        return not self.nemesis.done and len(exchanges) == 1 and EPOCH + timedelta(seconds=exchanges[0].started) < since

    def on_log(self, who: str, event: str, fields: dict[str, Any]) -> None:
        """A service logged something: the audit reads what exposure granted."""
        if event in ("granted", "reduced") and who.startswith("exposure"):
            line = {"event": event, "quote_id": fields["quote_id"], "bid": fields["bid"], "ask": fields["ask"]}
            self.granted.append(msgspec.json.encode(line))

    def go(self) -> None:
        """Run it."""
        self.system.prepare()
        self._until(self._is_ready, READY, "the system is not ready")
        self.clients.start()
        start = self.world.now
        self.nemesis.schedule(self.plan.faults, start)
        self._advance(self.plan.seconds)
        self.nemesis.end()
        self.world.trace.add("RUN", "healed", f"{len(self.plan.faults)} faults")
        self.clients.stop()
        patience = RECOVERY + self.plan.quote_ttl
        self._until(self._is_asking, patience, "clients wait for answers")
        self._resume("the switch is not turned once nothing goes wrong")
        self._until(self._is_settled, patience, "the system does not come to rest")
        self._check_redefined()
        self._check_switch()
        self._check_freed()
        self._check_orders()
        self._check_restart()
        self._until(self._is_settled, patience, "the system does not come to rest after orders")
        self._check_growth()
        self.clients.traders.close()
        self._audit()

    def _advance(self, seconds: float) -> None:
        if not self.monitor.wrong:
            self.world.run(self.world.now + seconds)
        if self.monitor.wrong:
            raise Found

    def _until(self, so: Callable[[], object], seconds: float, otherwise: str) -> None:
        """Go on until something is so, looking now and then."""
        until = self.world.now + seconds
        while so():
            if self.world.now >= until:
                self.wrong.append(f"{otherwise} after {seconds:g} s: {so()}")
                raise Found
            self._advance(0.25)

    # --- what must be so when nothing goes wrong ----------------------------------------------------------------------

    def _is_ready(self) -> str:
        """Who is not ready, and why; empty if everyone is."""
        waits = []
        for instance in self.system.instances.values():
            if instance.process is None:
                waits.append(f"{instance.name} is down")
            elif not instance.health.ready:
                reasons = "; ".join(f"{one.name}: {one.reason}" for one in instance.health.report().waiting_for)
                waits.append(f"{instance.name} waits for {reasons}")
        return ", ".join(waits)

    def _is_settled(self) -> str:
        """What is not as it should be with nobody paused: each symbol is quoted from its newest position, and what is
        held is what is shown."""
        if waits := self._is_ready():
            return waits
        now = self.system.broker.clock()
        shown_bid = shown_ask = 0
        for name, book in self.monitor.symbols.items():
            if self.monitor.losses.latches.pause_of(name) is not None:
                if book.live(now):
                    return f"{name} is quoted, and paused for its loss"
                continue
            if book.event is None or not book.live(now):
                if self._has_room(name):
                    return f"{name} is not quoted: {self._status(name)}"
                continue
            if book.event.position_version != book.number:
                return f"{name} is quoted from {book.event.position_version}, and is at {book.number}"
            if book.event.revision != self.monitor.revision(name):
                return f"{name} is quoted by revision {book.event.revision}, and is at {self.monitor.revision(name)}"
            shown_bid += book.bid
            shown_ask += book.ask
        for instance in self.system.of("exposure"):
            exposure = instance.service.exposure()
            if (exposure.bid.used, exposure.ask.used) != (shown_bid, shown_ask):
                used = f"{exposure.bid.used}/{exposure.ask.used}"
                return f"{instance.name} counts {used} used, and {shown_bid}/{shown_ask} are shown"
        for instance in self.system.of("ledger"):
            for name, book in self.monitor.symbols.items():
                position = instance.service.position(name)
                if (position.position_version, position.net_quantity) != (book.number, book.net):
                    return f"{instance.name} has {name} at {position.position_version}, and it is at {book.number}"
        return (
            self.monitor.losses.unpaused()
            or self.monitor.unpublished()
            or self.monitor.unprojected(self.system.broker.streams[QUOTES])
        )

    def _kept(self) -> set[str]:
        """What processes keep for something that is under way."""
        return {
            f"{instance.name} keeps {what}"
            for instance in self.system.instances.values()
            if instance.service is not None
            for what in leftovers.of(instance.kind, instance.service)
        }

    def _is_asking(self) -> str:
        return "" if self.clients.idle else "some are not answered"

    def _has_room(self, symbol: str) -> bool:
        """Whether the others leave the symbol anything of the limit."""
        now = self.system.broker.clock()
        others = [book for name, book in self.monitor.symbols.items() if name != symbol and book.live(now)]
        limit = self.plan.limit
        return sum(book.bid for book in others) < limit or sum(book.ask for book in others) < limit

    def _status(self, symbol: str) -> str:
        return ", ".join(
            f"{instance.name} {row.state} (last refusal {row.last_refusal})"
            for instance in self.system.of("maker")
            for row in instance.service.status().symbols
            if row.symbol == symbol
        )

    def _resume(self, otherwise: str) -> None:
        self._turn(self.system.of("maker")[-1], paused=False, otherwise=otherwise)

    def _turn(self, instance: Instance, *, paused: bool, otherwise: str) -> None:
        """Turn the switch, asking again as one is told to."""
        for _ in range(6):
            answers: list[bool] = []
            self.clients.begin(self._asked_to_turn(instance.name, paused, answers))
            until = self.world.now + SWITCHED
            while not answers and self.world.now < until:
                self._advance(0.25)
            if answers and answers[0]:
                return
            self._advance(1.0)
        self.wrong.append(f"{otherwise}: {self._is_ready()}")
        raise Found

    async def _asked_to_turn(self, maker: str, paused: bool, answers: list[bool]) -> None:  # as above
        answers.append(await self.clients.operators.turn(maker, paused=paused))

    def _check_switch(self) -> None:
        """What was acknowledged last stands, for every maker."""
        makers = self.system.of("maker")
        self._turn(makers[0], paused=True, otherwise="a pause is not acknowledged")
        self._until(self._is_paused, SWITCHED, "a pause is acknowledged, and does not stand")
        self._advance(2.0)
        if still := self._is_paused():
            self.wrong.append(f"a pause does not last: {still}")
            raise Found
        self._turn(makers[-1], paused=False, otherwise="a resume is not acknowledged")
        resumed = self.world.now
        self._until(self._is_resumed, SWITCHED, "a resume is acknowledged, and does not stand")
        self._until(self._is_settled, RECOVERY, f"the system does not come to rest after a resume at {resumed:.3f}")

    def _is_paused(self) -> str:
        for instance in self.system.of("maker"):
            if not instance.service.status().paused:
                return f"{instance.name} is not paused"
        now = self.system.broker.clock()
        return ", ".join(f"{name} is quoted" for name, book in self.monitor.symbols.items() if book.live(now))

    def _is_resumed(self) -> str:
        for instance in self.system.of("maker"):
            status = instance.service.status()
            if status.paused or any(row.state == "paused" for row in status.symbols):
                return f"{instance.name} is paused: {[row.state for row in status.symbols]}"
        return ""

    def _check_orders(self) -> None:
        """Every order has its outcome, also one that finds nothing: new ones at once, and what was given up when it is
        sent again."""
        names: list[str] = []
        flow = orders("last", self.plan.market.symbols, max_quantity=2, aggressiveness=1.0, seed=self.plan.seed)
        horizon = self.world.now - self.plan.id_window / 2
        again = [order for order, at in self.clients.traders.unresolved if at > horizon]
        self.clients.traders.unresolved.clear()
        new = [next(flow) for _ in range(2 * self.plan.symbols)]
        hopeless = [
            msgspec.structs.replace(order, order_id=f"{order.order_id}-hopeless", limit_price=_HOPELESS[order.side])
            for order in new[: self.plan.symbols]
        ]
        for order in [*again, *new, *hopeless]:

            async def send(order: Any = order) -> None:
                names.append(await self.clients.traders.order(order))

            self.clients.begin(send())
        self._until(self._is_asking, RECOVERY, "orders have no outcome")
        if self.clients.traders.unresolved:
            self.wrong.append(f"orders have no outcome although nothing goes wrong: {names}")
            raise Found

    def _check_redefined(self) -> None:
        """A new definition of an instrument replaces its quote at once, and not only when a refresh is due."""
        if not self.plan.define_rate:
            return
        for name, book in self.monitor.symbols.items():
            if book.live(self.system.broker.clock()):
                self.clients.begin(self.clients.definers.define(name))
                self._until(self._is_asking, RECOVERY, "a definition is not acknowledged")
                patience = REQUOTED + MESSAGES * (self.plan.least + self.plan.spread)
                self._until(partial(self._is_older, name), patience, "a definition changes no quote")

    def _is_older(self, name: str) -> str:
        book = self.monitor.symbols[name]
        if book.event is None or not book.live(self.system.broker.clock()) or not self._has_room(name):
            return ""
        if self.monitor.losses.latches.pause_of(name) is not None:
            return ""
        newest = self.monitor.revision(name)
        return "" if book.event.revision == newest else f"{name} is quoted by {book.event.revision}, not by {newest}"

    def _check_freed(self) -> None:
        """What is filled of a quote is free at once, and not only when the quote is replaced."""
        makers = [instance.process for instance in self.system.of("maker")]
        for maker in makers:
            if maker is not None:
                maker.pause()
        flow = orders("freed", self.plan.market.symbols, max_quantity=3, aggressiveness=1.0, seed=self.plan.seed)
        for order in [next(flow) for _ in range(2 * self.plan.symbols)]:
            self.clients.begin(self.clients.traders.order(order))
        self._advance(0.75)
        now = self.system.broker.clock()
        soon = now + timedelta(seconds=0.3)  # what is about to expire may be counted, or not
        books = self.monitor.symbols.values()
        shown = [book for book in books if book.live(now)]
        if self.clients.idle and all(book.live(soon) == book.live(now) for book in books) and len(shown) == len(books):
            bid, ask = sum(book.bid for book in shown), sum(book.ask for book in shown)
            for instance in self.system.of("exposure"):
                try:
                    exposure = instance.service.exposure()
                except Refused:  # it follows a log anew just now, as after a heartbeat that came late
                    continue
                if {live.reservation_id for live in exposure.reservations} - {
                    book.event.reservation_id for book in shown if book.event is not None
                }:
                    continue  # something else is held, and may be for as long as a reservation lives
                if (exposure.bid.used, exposure.ask.used) != (bid, ask):
                    used = f"{exposure.bid.used}/{exposure.ask.used}"
                    self.wrong.append(f"{instance.name} counts {used} used after fills, and {bid}/{ask} are left")
                    raise Found
        for maker in makers:
            if maker is not None:
                maker.resume()
        self._until(self._is_asking, RECOVERY, "clients wait for answers")

    def _check_restart(self) -> None:
        """What ledgers have committed and not published when they end is published once they are there again."""
        flow = orders("restart", self.plan.market.symbols, max_quantity=1, aggressiveness=1.0, seed=self.plan.seed)
        self.clients.begin(self.clients.traders.order(next(flow)))
        ledgers = self.system.of("ledger")
        before = self.monitor.fills
        for _ in range(500):
            if self.monitor.fills > before:
                break
            self._advance(0.001)
        for instance in ledgers:  # they end when they are about to publish
            if instance.client is not None:
                instance.client.fuse, instance.client.fuse_on, instance.client.sends_last = 1, "", False
                instance.client.on_fuse = instance.kill
        self._advance(0.5)
        for instance in ledgers:
            if instance.client is not None:
                instance.client.fuse = 0
        self._until(self._is_asking, RECOVERY, "clients wait for answers")

    def _check_growth(self) -> None:
        """Nothing is kept for those who have their answer."""
        before = self._kept()
        self._advance(PATIENT)
        if kept := before & self._kept():
            self.wrong.append(f"something is kept for {PATIENT:g} s: {sorted(kept)}")
        for instance in self.system.instances.values():
            if instance.failures:
                unexpected = [
                    f"{at:.3f}: {why}" for at, why in instance.failures if not any(end in why for end in EXPECTED_ENDS)
                ]
                if unexpected:
                    self.wrong.append(f"{instance.name} ended by itself: {unexpected}")
        missing = self.clients.bookers.booked - self.monitor.booked
        if missing:
            self.wrong.append(f"reported fills were acknowledged, and are not in the log: {sorted(missing)}")
        self.wrong += self.clients.wrong
        self.wrong += self.world.uncaught

    # --- the audit ----------------------------------------------------------------------------------------------------

    def _audit(self) -> None:
        logs = self.folder / "logs"
        logs.mkdir()
        (logs / "exposure.log").write_bytes(b"\n".join(self.granted))
        sources = auditing.Sources(
            where="the simulation",
            market=self.plan.market,
            logs=logs,
            databases=[self.folder / f"{instance.name}.sqlite" for instance in self.system.of("ledger")],
            histories=[self.clients.history],
            recorded=always(self.plan.market),
        )

        async def run(connection: Connection) -> None:
            self.report = await auditing.audit(connection, sources, lambda *_: None)

        self.system.run_program("audit", run, "auditor", 120.0)
        assert self.report is not None  # noqa: S101 # for the type checker: it was just made
        for verdict in self.report.refuted:
            if self._tells_of_what_is_foreign(verdict):
                continue
            details = "; ".join(finding.detail for finding in verdict.findings[:3])
            self.wrong.append(f"{verdict.code} is refuted ({verdict.contradictions}): {details}")

    def _tells_of_what_is_foreign(self, verdict: Verdict) -> bool:
        """Whether all that a verdict finds are messages that no service has written: it is right to tell of them."""
        foreign = self.monitor.foreign
        found = [(finding.source, finding.sequence) in foreign for finding in verdict.findings]
        return all(found) and verdict.contradictions <= len(foreign)

    def counts(self) -> dict[str, int]:
        """What happened."""
        return {
            **{f"fault {kind}": count for kind, count in sorted(self.nemesis.done.items())},
            **{f"order {name}": count for name, count in sorted(self.clients.traders.outcomes.items())},
            "executions": self.monitor.fills,
            "activations": self.monitor.quotes,
            "processes": sum(instance.incarnations for instance in self.system.instances.values()),
            "turns": len(self.clients.operators.turns),
            "pauses for a loss": self.monitor.losses.pauses,
            "foreign messages": len(self.monitor.foreign),
            "forbidden requests refused": self.clients.careless.refused,
            "bookings": len(self.clients.bookers.booked),
            "steps": self.world.steps,
        }
