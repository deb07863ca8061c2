"""One run: the system works while faults are injected; then it must recover and settle; then it is audited."""

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
from simulation import in_flight
from simulation.clients import Clients
from simulation.faults import Nemesis
from simulation.oracles import QUOTES, Monitor
from simulation.plan import Plan
from simulation.system import Instance, System
from simulation.trace import Trace
from simulation.world import EPOCH, World
from wire.errors import Refused

READY_WITHIN = 30.0
"""Virtual seconds within which the system must start, before the first fault."""

REQUOTED_WITHIN = 1.5
"""Seconds within which a new definition leads to a new quote, without faults and if messages took no time."""

MESSAGES = 40
"""The most messages that follow one another until then, including those that are late, or refused and sent again."""

RECOVERED_WITHIN = 60.0
"""Virtual seconds within which the system must recover after the last fault, in addition to a quote's lifetime."""

SWITCHED_WITHIN = 15.0
"""Virtual seconds within which every maker must obey an acknowledged pause or resume."""

LONGEST_IN_FLIGHT = 12.0
"""Virtual seconds for which anything may be in flight after the last fault."""

EXPECTED_ENDS = ("OperationalError",)
"""The errors with which a process may end by itself: its disk failed."""

_HOPELESS: dict[str, Decimal] = {"buy": Decimal("0.01"), "sell": Decimal(100_000)}
"""Limit prices at which nothing executes."""


class ViolationFound(Exception):  # noqa: N818 # names what happened
    """An invariant is violated, so the run ends."""


class Scenario:
    """One run.

    Attributes:
        wrong: the violations found so far.
    """

    def __init__(self, plan: Plan, trace: Trace, folder: Path) -> None:
        self.plan = plan
        self.world = World(plan.seed, trace)
        self.world.busy, self.world.busy_for = plan.busy, plan.busy_for
        self.folder = folder
        self.system = System(self.world, plan, folder)
        self.monitor = Monitor(self.world, plan.limit, plan.grace, plan.market.symbols)
        self.system.broker.on_store.append(self.monitor.stored)
        self.system.broker.on_rewind.append(self.monitor.rewound)
        self.clients = Clients(self.system, folder, self.monitor)
        self.monitor.reservations.runs_alone = self._runs_alone
        self.nemesis = Nemesis(self.system)
        self.wrong: list[str] = []
        self.granted: list[bytes] = []
        self.report: Report | None = None

    def _runs_alone(self, since: datetime) -> bool:
        """True if only one exchange has run since a time, and no fault has been injected so far."""
        exchanges = self.system.of("exchange")
        return not self.nemesis.done and len(exchanges) == 1 and EPOCH + timedelta(seconds=exchanges[0].started) < since

    def on_log(self, who: str, event: str, fields: dict[str, Any]) -> None:
        """Keep what exposure logs about grants, which the audit reads."""
        if event in ("granted", "reduced") and who.startswith("exposure"):
            line = {"event": event, "quote_id": fields["quote_id"], "bid": fields["bid"], "ask": fields["ask"]}
            self.granted.append(msgspec.json.encode(line))

    def go(self) -> None:
        """Run all phases.

        Raises:
            ViolationFound: an invariant is violated; `wrong` or the oracles' lists describe it.
        """
        self.system.prepare()
        self._until(self._not_ready, READY_WITHIN, "the system is not ready")
        self.clients.start()
        start = self.world.now
        self.nemesis.schedule(self.plan.faults, start)
        self._advance(self.plan.seconds)
        self.nemesis.end()
        self.world.trace.add("RUN", "healed", f"{len(self.plan.faults)} faults")
        self.clients.stop()
        patience = RECOVERED_WITHIN + self.plan.market.max_quote_ttl
        self._until(self._unanswered, patience, "clients wait for answers")
        self._resume("the switch cannot be set after the last fault")
        self._until(self._not_settled, patience, "the system does not settle")
        self._check_redefined()
        self._check_switch()
        self._check_freed()
        self._check_orders()
        self._check_restart()
        self._until(self._not_settled, patience, "the system does not settle after orders")
        self._check_growth()
        self.clients.traders.close()
        self._audit()

    def _advance(self, seconds: float) -> None:
        if not self.monitor.wrong:
            self.world.run(self.world.now + seconds)
        if self.monitor.wrong:
            raise ViolationFound

    def _until(self, problem: Callable[[], object], seconds: float, failure: str) -> None:
        """Run until `problem` returns nothing. Fail with the text `failure` if that takes more than `seconds`."""
        until = self.world.now + seconds
        while problem():
            if self.world.now >= until:
                self.wrong.append(f"{failure} after {seconds:g} s: {problem()}")
                raise ViolationFound
            self._advance(0.25)

    # --- what must hold without faults --------------------------------------------------------------------------------

    def _not_ready(self) -> str:
        """Return which processes are not ready, and why; empty if all are."""
        waits = []
        for instance in self.system.instances.values():
            if instance.process is None:
                waits.append(f"{instance.name} is down")
            elif not instance.health.ready:
                reasons = "; ".join(f"{one.name}: {one.reason}" for one in instance.health.report().waiting_for)
                waits.append(f"{instance.name} waits for {reasons}")
        return ", ".join(waits)

    def _not_settled(self) -> str:
        """Return why the system has not settled; empty if it has.

        It has settled if each symbol is quoted from its newest position, and exposure holds exactly what is shown.
        """
        if waits := self._not_ready():
            return waits
        now = self.system.broker.clock()
        shown_bid = shown_ask = 0
        for name, book in self.monitor.symbols.items():
            if self.monitor.losses.latches.pause_of(name) is not None:
                if book.live(now):
                    return f"{name} is quoted, although it is paused for its loss"
                continue
            if book.event is None or not book.live(now):
                if self._has_room(name):
                    return f"{name} is not quoted: {self._status(name)}"
                continue
            if book.event.position_version != book.number:
                return f"{name} is quoted from position {book.event.position_version}, not from {book.number}"
            if book.event.revision != self.monitor.revision(name):
                return f"{name} is quoted by revision {book.event.revision}, not by {self.monitor.revision(name)}"
            shown_bid += book.bid
            shown_ask += book.ask
        for instance in self.system.of("exposure"):
            exposure = instance.service.exposure()
            if (exposure.bid.used, exposure.ask.used) != (shown_bid, shown_ask):
                used = f"{exposure.bid.used}/{exposure.ask.used}"
                return f"{instance.name} counts {used} lots as used, but {shown_bid}/{shown_ask} are shown"
        for instance in self.system.of("ledger"):
            for name, book in self.monitor.symbols.items():
                position = instance.service.position(name)
                if (position.position_version, position.net_quantity) != (book.number, book.net):
                    return f"{instance.name} has {name} at {position.position_version}, not at {book.number}"
        return (
            self.monitor.losses.unpaused()
            or self.monitor.unpublished()
            or self.monitor.unprojected(self.system.broker.streams[QUOTES])
        )

    def _in_flight(self) -> set[str]:
        """Return what each process still has in flight."""
        return {
            f"{instance.name} keeps {what}"
            for instance in self.system.instances.values()
            if instance.service is not None
            for what in in_flight.of(instance.kind, instance.service)
        }

    def _unanswered(self) -> str:
        return "" if self.clients.idle else "some requests are not answered"

    def _has_room(self, symbol: str) -> bool:
        """True if the other symbols leave this one a part of the limit."""
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

    def _resume(self, failure: str) -> None:
        self._set_switch(self.system.of("maker")[-1], paused=False, failure=failure)

    def _set_switch(self, instance: Instance, *, paused: bool, failure: str) -> None:
        """Set the kill switch, and retry as the protocol asks."""
        for _ in range(6):
            answers: list[bool] = []
            self.clients.begin(self._request_switch(instance.name, paused, answers))
            until = self.world.now + SWITCHED_WITHIN
            while not answers and self.world.now < until:
                self._advance(0.25)
            if answers and answers[0]:
                return
            self._advance(1.0)
        self.wrong.append(f"{failure}: {self._not_ready()}")
        raise ViolationFound

    async def _request_switch(self, maker: str, paused: bool, answers: list[bool]) -> None:
        answers.append(await self.clients.operators.switch(maker, paused=paused))

    def _check_switch(self) -> None:
        """Check that every maker obeys the last acknowledged pause or resume."""
        makers = self.system.of("maker")
        self._set_switch(makers[0], paused=True, failure="a pause is not acknowledged")
        self._until(self._not_paused, SWITCHED_WITHIN, "a pause is acknowledged, but not obeyed")
        self._advance(2.0)
        if still := self._not_paused():
            self.wrong.append(f"a pause does not last: {still}")
            raise ViolationFound
        self._set_switch(makers[-1], paused=False, failure="a resume is not acknowledged")
        resumed = self.world.now
        self._until(self._not_resumed, SWITCHED_WITHIN, "a resume is acknowledged, but not obeyed")
        self._until(self._not_settled, RECOVERED_WITHIN, f"the system does not settle after a resume at {resumed:.3f}")

    def _not_paused(self) -> str:
        for instance in self.system.of("maker"):
            if not instance.service.status().paused:
                return f"{instance.name} is not paused"
        now = self.system.broker.clock()
        return ", ".join(f"{name} is quoted" for name, book in self.monitor.symbols.items() if book.live(now))

    def _not_resumed(self) -> str:
        for instance in self.system.of("maker"):
            status = instance.service.status()
            if status.paused or any(row.state == "paused" for row in status.symbols):
                return f"{instance.name} is paused: {[row.state for row in status.symbols]}"
        return ""

    def _check_orders(self) -> None:
        """Check that every order gets its outcome, even if nothing can fill it: new orders at once, and orders that
        their clients gave up when they are sent again."""
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
        self._until(self._unanswered, RECOVERED_WITHIN, "orders have no outcome")
        if self.clients.traders.unresolved:
            self.wrong.append(f"orders have no outcome although no fault is injected: {names}")
            raise ViolationFound

    def _check_redefined(self) -> None:
        """Check that a new definition of an instrument replaces its quote at once, not only when a refresh is due."""
        if not self.plan.define_rate:
            return
        for name, book in self.monitor.symbols.items():
            if book.live(self.system.broker.clock()):
                self.clients.begin(self.clients.definers.define(name))
                self._until(self._unanswered, RECOVERED_WITHIN, "a definition is not acknowledged")
                patience = REQUOTED_WITHIN + MESSAGES * (self.plan.least + self.plan.spread)
                self._until(partial(self._not_requoted, name), patience, "a definition changes no quote")

    def _not_requoted(self, name: str) -> str:
        book = self.monitor.symbols[name]
        if book.event is None or not book.live(self.system.broker.clock()) or not self._has_room(name):
            return ""
        if self.monitor.losses.latches.pause_of(name) is not None:
            return ""
        newest = self.monitor.revision(name)
        return "" if book.event.revision == newest else f"{name} is quoted by {book.event.revision}, not by {newest}"

    def _check_freed(self) -> None:
        """Check that the filled part of a quote frees its exposure at once, not only when the quote is replaced."""
        makers = [instance.process for instance in self.system.of("maker")]
        for maker in makers:
            if maker is not None:
                maker.pause()
        flow = orders("freed", self.plan.market.symbols, max_quantity=3, aggressiveness=1.0, seed=self.plan.seed)
        for order in [next(flow) for _ in range(2 * self.plan.symbols)]:
            self.clients.begin(self.clients.traders.order(order))
        self._advance(0.75)
        now = self.system.broker.clock()
        soon = now + timedelta(seconds=0.3)  # a quote that is about to expire may be counted, or not
        books = self.monitor.symbols.values()
        shown = [book for book in books if book.live(now)]
        if self.clients.idle and all(book.live(soon) == book.live(now) for book in books) and len(shown) == len(books):
            bid, ask = sum(book.bid for book in shown), sum(book.ask for book in shown)
            for instance in self.system.of("exposure"):
                try:
                    exposure = instance.service.exposure()
                except Refused:  # it is restarting a tail right now, for example after a late heartbeat
                    continue
                if {live.reservation_id for live in exposure.reservations} - {
                    book.event.reservation_id for book in shown if book.event is not None
                }:
                    continue  # another reservation is held, which is allowed until it expires
                if (exposure.bid.used, exposure.ask.used) != (bid, ask):
                    used = f"{exposure.bid.used}/{exposure.ask.used}"
                    self.wrong.append(f"{instance.name} counts {used} lots as used after fills, not {bid}/{ask}")
                    raise ViolationFound
        for maker in makers:
            if maker is not None:
                maker.resume()
        self._until(self._unanswered, RECOVERED_WITHIN, "clients wait for answers")

    def _check_restart(self) -> None:
        """Check that ledgers that end between commit and publish do publish when they run again."""
        flow = orders("restart", self.plan.market.symbols, max_quantity=1, aggressiveness=1.0, seed=self.plan.seed)
        self.clients.begin(self.clients.traders.order(next(flow)))
        ledgers = self.system.of("ledger")
        before = self.monitor.fills
        for _ in range(500):
            if self.monitor.fills > before:
                break
            self._advance(0.001)
        for instance in ledgers:  # they end just before they publish
            if instance.client is not None:
                instance.client.fuse, instance.client.fuse_on, instance.client.sends_last = 1, "", False
                instance.client.on_fuse = instance.kill
        self._advance(0.5)
        for instance in ledgers:
            if instance.client is not None:
                instance.client.fuse = 0
        self._until(self._unanswered, RECOVERED_WITHIN, "clients wait for answers")

    def _check_growth(self) -> None:
        """Check that processes keep nothing for requests that were answered, and collect all other violations."""
        before = self._in_flight()
        self._advance(LONGEST_IN_FLIGHT)
        if kept := before & self._in_flight():
            self.wrong.append(f"in flight for {LONGEST_IN_FLIGHT:g} s: {sorted(kept)}")
        for instance in self.system.instances.values():
            if instance.failures:
                unexpected = [
                    f"{at:.3f}: {why}" for at, why in instance.failures if not any(end in why for end in EXPECTED_ENDS)
                ]
                if unexpected:
                    self.wrong.append(f"{instance.name} ended by itself: {unexpected}")
        missing = self.clients.bookers.booked - self.monitor.booked
        if missing:
            self.wrong.append(f"reported fills were acknowledged, but are not in the log: {sorted(missing)}")
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
        assert self.report is not None  # noqa: S101 # for the type checker: `run` has just set it
        for verdict in self.report.refuted:
            if self._is_foreign(verdict):
                continue
            details = "; ".join(finding.detail for finding in verdict.findings[:3])
            self.wrong.append(f"{verdict.code} is refuted ({verdict.contradictions}): {details}")

    def _is_foreign(self, verdict: Verdict) -> bool:
        """True if a verdict is only about messages that no service has written: the audit rightly reports those."""
        foreign = self.monitor.foreign
        found = [(finding.source, finding.sequence) in foreign for finding in verdict.findings]
        return all(found) and verdict.contradictions <= len(foreign)

    def counts(self) -> dict[str, int]:
        """Return how often each kind of event happened."""
        return {
            **{f"fault {kind}": count for kind, count in sorted(self.nemesis.done.items())},
            **{f"order {name}": count for name, count in sorted(self.clients.traders.outcomes.items())},
            "executions": self.monitor.fills,
            "activations": self.monitor.quotes,
            "processes": sum(instance.incarnations for instance in self.system.instances.values()),
            "turns": len(self.clients.operators.requests),
            "pauses for a loss": self.monitor.losses.pauses,
            "foreign messages": len(self.monitor.foreign),
            "forbidden requests refused": self.clients.careless.refused,
            "bookings": len(self.clients.bookers.booked),
            "steps": self.world.steps,
        }
