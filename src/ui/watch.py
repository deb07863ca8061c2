"""Watches what the logs of the market do not tell: which processes there are, why symbols are not quoted, the kill
switch, and what is paused for its loss.

Processes answer when they are asked (`jet.rollcall`), this one is heard without. Of the NATS servers, the one that
leads the first shard of the market log tells. The last two are followed in their bucket.
"""

import asyncio
import secrets
from collections.abc import Callable
from datetime import datetime

from jet import api
from jet.bootstrap import Bootstrap
from jet.connection import Connection
from jet.loss_log import LossLog
from jet.reader import Reader
from jet.rollcall import RollCall
from jet.switch_log import KEY, STREAM, change_of, is_change
from jet.tail import behind
from process.clock import Clock
from process.health import Health
from ui.board import KillSwitch
from ui.order_rates import OrderRates
from ui.processes import Process, Processes
from ui.unquoted import Unquoted, unquoted
from wire import subjects
from wire.processes import ProcessReport

NATS = "nats"
SERVICES = ("exchange", "exposure", "ledger", "maker", NATS, "ui")
"""Of each of which at least one process should be there."""

SERVERS_EVERY = 1.0
"""Seconds between two questions after the NATS servers, and for an answer: more often than processes are asked."""


class Watch:
    """What is known of processes and the switch.

    Attributes:
        switch: the kill switch; None before its bucket was read.
    """

    def __init__(self, connection: Connection, health: Health, clock: Clock, changed: Callable[[], None]) -> None:
        """`changed` is called when `processes`, `unquoted` or `answered` may be others."""
        self.switch: KillSwitch | None = None
        self._connection = connection
        self._health = health
        self._clock = clock
        self._changed = changed
        self._own = secrets.token_hex(11)
        self._processes: Processes | None = None
        self._answered = OrderRates()
        self._losses = LossLog(connection, changed, name="losses", follow=Reader)
        self._calls = RollCall(connection, self._on_report, self._ended)

    async def call_roll(self) -> None:
        """Ask all processes, until cancelled."""
        self._processes = Processes(SERVICES, self._clock())
        self._on_own_report(self._clock())
        await self._calls.run()

    async def ask_for_servers(self) -> None:
        """Ask how the NATS servers are, until cancelled."""
        while True:
            try:
                info = await api.stream_info(self._connection, subjects.market_stream(0), timeout=SERVERS_EVERY)
            except api.NO_REPLY:
                pass  # nobody leads it, or we are cut off: they are gone, then, as far as can be known
            else:
                for report in servers(info):
                    self._on_report(NATS, report.process, report)
            await asyncio.sleep(SERVERS_EVERY)

    async def follow_switch(self) -> None:
        """Follow the switch, until cancelled.

        Raises:
            TailBroken: its bucket lost what was read of it.
        """
        bootstrap = Bootstrap(self._connection, STREAM, [KEY], is_change, name="switch", follow=Reader)
        async for batch in bootstrap.batches():
            known = self.switch or KillSwitch(current=False, paused=False)
            paused, at, by = known.paused, known.at, known.by
            for message in batch:
                change = change_of(message)
                if change is not None:
                    paused, at, by = change.paused, change.at, change.by
            if self.switch is not None or bootstrap.current:
                self.switch = KillSwitch(current=bootstrap.current, paused=paused, at=at, by=by)

    async def follow_losses(self) -> None:
        """Follow what is paused for its loss, until cancelled.

        Raises:
            TailBroken: its bucket lost what was read of it.
        """
        await self._losses.run()

    @property
    def processes(self) -> list[Process]:
        """Those that answer, those that do not any more, and services of which none does."""
        return self._processes.shown() if self._processes is not None else []

    @property
    def answered(self) -> dict[str, float]:
        """Orders per second by outcome, as exchanges count them."""
        return self._answered.rates(self._clock())

    @property
    def unquoted(self) -> Unquoted:
        """Why symbols are not quoted, as makers say."""
        if self._processes is None or not self._processes.rounds:
            return Unquoted(symbols={})
        return unquoted(self._processes.answering("maker"), self._losses.latches)

    def _on_report(self, service: str, instance: str, report: ProcessReport) -> None:
        if self._processes is not None:
            self._processes.observe(service, instance, report, self._clock())
        if report.orders:
            self._answered.observe(instance, report.orders, self._clock())

    def _ended(self) -> None:
        now = self._clock()
        if self._processes is not None:
            self._on_own_report(now)
            self._processes.end_round(now)
            self._changed()

    def _on_own_report(self, now: datetime) -> None:
        if self._processes is not None:
            self._processes.observe("ui", self._own, self._health.process(behind()), now)


def servers(info: api.StreamInfo) -> list[ProcessReport]:
    """What the leader of a stream says of the servers that hold it, itself included. When they started, nobody says."""
    group = info.cluster
    if group is None:
        return []
    leader = [ProcessReport(process=group.leader, uptime=0.0, ready=True)] if group.leader else []
    return [*leader, *(_server(peer) for peer in group.replicas)]


def _server(peer: api.Peer) -> ProcessReport:
    why = "offline" if peer.offline else "" if peer.current else f"not heard for {peer.active / 1e9:.0f} s, or behind"
    return ProcessReport(
        process=peer.name, uptime=0.0, ready=not why, waiting_for={"leader": why} if why else {}, behind=peer.lag
    )
