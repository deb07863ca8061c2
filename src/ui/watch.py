"""Watches what the market's logs do not contain: the processes, why symbols are not quoted, the kill switch, and which
symbols are paused for a loss.

All processes are polled for reports (`jet.process_poller`), except this one, which adds its own. The leader of the
first shard of the market log reports on the NATS servers. The kill switch and the pauses for a loss are followed in
their bucket.
"""

import asyncio
import secrets
from collections.abc import Callable
from datetime import datetime

from jet import api
from jet.bootstrap import Bootstrap
from jet.connection import Connection
from jet.loss_log import LossLog
from jet.process_poller import ProcessPoller
from jet.reader import Reader
from jet.switch_log import KEY, STREAM, change_of, is_change
from jet.tail import total_lag
from process.clock import Clock
from process.health import Health
from ui.frames import KillSwitch
from ui.order_rates import OrderRates
from ui.processes import Process, Processes
from ui.unquoted import Unquoted, unquoted
from wire import subjects
from wire.processes import ProcessReport

NATS = "nats"
SERVICES = ("exchange", "exposure", "ledger", "maker", NATS, "ui")
"""At least one process of each should be running."""

SERVERS_INTERVAL = 1.0
"""Seconds between two requests about the NATS servers, and until each times out. Processes are asked less often."""


class Watch:
    """The state of the processes, the kill switch and the pauses.

    Attributes:
        switch: None before its bucket has been read.
    """

    def __init__(self, connection: Connection, health: Health, clock: Clock, changed: Callable[[], None]) -> None:
        """`changed` is called when `processes`, `unquoted` or `answered` may have changed."""
        self.switch: KillSwitch | None = None
        self._connection = connection
        self._health = health
        self._clock = clock
        self._changed = changed
        self._instance = secrets.token_hex(11)
        self._processes: Processes | None = None
        self._answered = OrderRates()
        self._losses = LossLog(connection, changed, name="losses", follow=Reader)
        self._poller = ProcessPoller(connection, self._on_report, self._on_round_ended)

    async def poll_processes(self) -> None:
        """Ask all processes for reports, again and again, until cancelled."""
        self._processes = Processes(SERVICES, self._clock())
        self._report_self(self._clock())
        await self._poller.run()

    async def poll_servers(self) -> None:
        """Request the state of the NATS servers, again and again, until cancelled."""
        while True:
            try:
                info = await api.stream_info(self._connection, subjects.market_stream(0), timeout=SERVERS_INTERVAL)
            except api.NO_REPLY:
                pass  # the stream has no leader, or this process is cut off: the servers will count as gone
            else:
                for report in servers(info):
                    self._on_report(NATS, report.process, report)
            await asyncio.sleep(SERVERS_INTERVAL)

    async def follow_switch(self) -> None:
        """Follow the kill switch until cancelled.

        Raises:
            TailBroken: its bucket lost messages that had been read.
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
        """Follow the pauses for a loss until cancelled.

        Raises:
            TailBroken: its bucket lost messages that had been read.
        """
        await self._losses.run()

    @property
    def processes(self) -> list[Process]:
        """The processes that answer, those that no longer do, and the services of which none does."""
        return self._processes.shown() if self._processes is not None else []

    @property
    def answered(self) -> dict[str, float]:
        """Orders per second by outcome, as the exchanges count them."""
        return self._answered.rates(self._clock())

    @property
    def unquoted(self) -> Unquoted:
        """Why symbols are not quoted, as the makers report."""
        if self._processes is None or not self._processes.rounds:
            return Unquoted(symbols={})
        return unquoted(self._processes.answering("maker"), self._losses.latches)

    def _on_report(self, service: str, instance: str, report: ProcessReport) -> None:
        if self._processes is not None:
            self._processes.observe(service, instance, report, self._clock())
        if report.orders:
            self._answered.observe(instance, report.orders, self._clock())

    def _on_round_ended(self) -> None:
        now = self._clock()
        if self._processes is not None:
            self._report_self(now)
            self._processes.end_round(now)
            self._changed()

    def _report_self(self, now: datetime) -> None:
        if self._processes is not None:
            self._processes.observe("ui", self._instance, self._health.process(total_lag()), now)


def servers(info: api.StreamInfo) -> list[ProcessReport]:
    """Make reports of the servers that hold a stream, as its leader describes them. When they started is not known."""
    group = info.cluster
    if group is None:
        return []
    leader = [ProcessReport(process=group.leader, uptime=0.0, ready=True)] if group.leader else []
    return [*leader, *(_server(peer) for peer in group.replicas)]


def _server(peer: api.Peer) -> ProcessReport:
    why = "offline" if peer.offline else "" if peer.current else f"no contact for {peer.active / 1e9:.0f} s, or lagging"
    return ProcessReport(
        process=peer.name, uptime=0.0, ready=not why, waiting_for={"leader": why} if why else {}, behind=peer.lag
    )
