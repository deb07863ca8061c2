"""The maker's shell: for each symbol one view, which two feeds update, and one quoter; and the kill switch.

The makers that are present divide the symbols (`maker.rendezvous`): for each symbol, a maker waits `standby_delay` for
each maker ranked before it.

The maker follows `POSITIONS` from each symbol's last update, and every shard of the market log from each symbol's last
quote event and last fills. It acts on a symbol only while both feeds and the switches are current and the broker's time
is known.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Annotated

import msgspec
import structlog
from msgspec import Meta
from msgspec.structs import replace

from jet import rpc
from jet.bootstrap import Bootstrap, MarketBootstrap, PublishedPositions, is_position
from jet.clocks import BrokerTime
from jet.connection import Connection
from jet.listings import Listings
from jet.loss_log import LossLog
from jet.presence import Presence
from jet.switch_log import STREAM as SWITCHES
from jet.tail import Message
from maker import metrics
from maker.killswitch import SwitchState
from maker.plan import View
from maker.quoter import Quoter
from maker.rendezvous import Rendezvous
from maker.status import MakerStatus, not_quoted, notices, unquoted
from maker.switch import Switch
from maker.window import Window
from process import tracing
from process.clock import Clock, uptime
from process.health import Health
from process.settings import Port, Seconds, ServiceSettings
from wire import fill_validation, subjects
from wire.errors import Refusal, Refused
from wire.fields import DECODE_ERRORS
from wire.instruments import Listing
from wire.losses import Scope
from wire.market import SymbolMarket
from wire.positions import PositionUpdate
from wire.processes import ProcessReport
from wire.quotes import QuoteEvent
from wire.switches import LossPaused

PAUSE_DEADLINE = 5.0
"""Seconds within which a pause must be in the log and every withdrawal confirmed, or a resume be in the log."""

STOP_DEADLINE = 2.0
"""Seconds for withdrawing this process's own quotes when it stops."""

log = structlog.get_logger()

_positions = msgspec.json.Decoder(PositionUpdate)
_quote_events = msgspec.json.Decoder(QuoteEvent)


class MakerSettings(ServiceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The maker's settings.

    Attributes:
        standby_delay: seconds that this maker waits for each maker that is present and ranked before it for a symbol.
        rpc_timeout: seconds to wait for a reply before the identical request is sent again.
    """

    port: Port = 8004
    standby_delay: Annotated[float, Meta(ge=0, le=3600)] = 1.0
    rpc_timeout: Seconds = 1.0


class Maker:
    """The service. Call `stop` before cancelling `run`."""

    def __init__(self, settings: MakerSettings, connection: Connection, health: Health, clock: Clock) -> None:
        self._settings = settings
        self._connection = connection
        self._health = health
        health.add_notices(self._notices)
        market = settings.market
        self.clock = BrokerTime(connection, clock, uptime, health, market.grace, self._feeds_changed)
        self._progress = asyncio.Event()
        self._windows = [Window() for _ in range(market.shards)]  # one per shard: a slow shard delays no other
        self._quoters: dict[str, Quoter] = {}
        self._unlisted: dict[str, View] = {}  # views of symbols that are not listed (yet)
        self._group: asyncio.TaskGroup | None = None
        self._stopping = False
        self._listings = Listings(
            connection, health, market.listings, self._relist, name="maker-instruments", agreed=market.terms
        )
        self._positions_current = False
        self._published = PublishedPositions(connection, name="maker-published")
        self._market_current = dict.fromkeys(range(market.shards), False)
        life = timedelta(seconds=market.reservation_life)
        self._switch = Switch(connection, self.clock, self._apply_switch, self._quarantine, life)
        self._losses = LossLog(connection, self._losses_changed, self._quarantine, name="maker-losses")
        self._loss_pauses: Mapping[Scope, LossPaused] = {}
        self._state = SwitchState.STARTING
        self._rendezvous = Rendezvous(())
        self._presence = Presence(connection, subjects.MAKER_PRESENCE, self._is_able, self._rank_makers)
        self._relist(market.listings)

    async def run(self) -> None:
        """Follow the feeds and keep every symbol quoted until cancelled."""
        async with self._connection, asyncio.TaskGroup() as group:
            group.create_task(self._connection.failed())
            group.create_task(self.clock.run())
            group.create_task(rpc.serve(self._connection, "maker", [], report=self._report))
            await self.clock.wait_known()
            self._group = group
            for quoter in self._quoters.values():
                group.create_task(quoter.run())
            group.create_task(self._listings.run())
            await self._listings.opened()
            group.create_task(self._switch.run())
            group.create_task(self._losses.run())
            group.create_task(self._presence.run())
            group.create_task(self._follow_positions())
            for shard in self._market_current:
                group.create_task(self._follow_market(shard))

    async def stop(self) -> None:
        """Leave the symbols to the other makers, and withdraw this process's quotes. Quotes that cannot be withdrawn
        within `STOP_DEADLINE` expire."""
        self._stopping = True
        await self._presence.leave()
        for quoter in self._quoters.values():
            quoter.stop()
        try:
            async with asyncio.timeout(STOP_DEADLINE):
                await self._until(lambda: all(quoter.has_stopped for quoter in self._quoters.values()))
        except TimeoutError:
            unknown = [symbol for symbol, quoter in self._quoters.items() if not quoter.has_stopped]
            log.warning("stopping with withdrawals not confirmed", symbols=unknown)

    # --- the kill switch ----------------------------------------------------------------------------------------------

    async def pause(self, by: str = "") -> MakerStatus:
        """Pause all makers, and withdraw the quote of every symbol, whoever made it. `by`: who requests it.

        Pausing again is harmless. If a later resume has ended the pause meanwhile, the status shows it.

        Raises:
            Refused: OUTCOME_UNKNOWN: this maker has stopped quoting, and keeps trying to complete the pause. It holds
                until its pause, or a newer resume, is in the log of the switch.
        """
        hold = self._switch.pause(by)
        seen, episode = self._switch.seen, self._switch.seen.episode
        quoters = self._quoters.values()

        def is_done() -> bool:
            is_withdrawn = not seen.state.pauses or all(quoter.has_withdrawn_all(episode) for quoter in quoters)
            return seen.landed >= hold.number and is_withdrawn and self._listings.is_open

        try:
            async with asyncio.timeout(PAUSE_DEADLINE):
                await self._until(is_done)
        except TimeoutError as error:
            unknown = ", ".join(quoter.symbol for quoter in quoters if not quoter.has_withdrawn_all(episode))
            log.error("pause not confirmed in time", landed=seen.landed >= hold.number, symbols=unknown)  # noqa: TRY400 # no trace needed
            missing = [f"quotes may still be active on {unknown}"] if unknown else []
            missing += ["other makers may not have paused"] if seen.landed < hold.number else []
            raise Refused(
                Refusal.OUTCOME_UNKNOWN, f"this maker has paused and keeps trying, but {' and '.join(missing)}"
            ) from error
        finally:
            self._switch.timed_out(hold)
        return self.status()

    async def resume(self, by: str = "") -> MakerStatus:
        """Have all makers quote again. `by`: who requests it. Resuming makers that are not paused is harmless.

        Raises:
            Refused: NEWER_PAUSE: another pause came first, and is active; OUTCOME_UNKNOWN: the switch may not have
                changed. Resume again.
        """
        try:
            async with asyncio.timeout(PAUSE_DEADLINE):
                resumed = await self._switch.resume(by)
        except (Refused, TimeoutError) as error:
            log.error("resume not confirmed", error=str(error))  # noqa: TRY400 # no trace needed
            detail = "it is not known whether makers have resumed: resume again"
            raise Refused(Refusal.OUTCOME_UNKNOWN, detail) from error
        if not resumed:
            raise Refused(Refusal.NEWER_PAUSE, "makers were paused again before they could resume")
        return self.status()

    def _apply_switch(self) -> None:
        """Apply the state of the kill switch to all quoters. Idempotent."""
        seen = self._switch.seen
        state = seen.state
        for quoter in self._quoters.values():
            quoter.apply_switch(paused=state.pauses, episode=seen.episode)
        if state is not self._state:
            log.warning("kill switch changed", state=state.value, before=self._state.value, by=seen.by)
            self._state = state
        self._feeds_changed()
        self._notify_progress()

    def _losses_changed(self) -> None:
        """Apply the pauses for losses to all quoters: the pauses, or whether they are known, may have changed."""
        latches = self._losses.latches
        for symbol, quoter in self._quoters.items():
            quoter.pause_for_loss(latches.pause_of(symbol))
        before, self._loss_pauses = self._loss_pauses, latches.paused
        for scope in before.keys() | self._loss_pauses.keys():
            if before.get(scope) != self._loss_pauses.get(scope):
                why = self._loss_pauses.get(scope)
                fields = msgspec.to_builtins(why) if why is not None else {}
                log.warning("paused for its loss" if why else "resumed after its loss", symbol=scope or "all", **fields)
        self._feeds_changed()

    def _notify_progress(self) -> None:
        """Wake those who wait for the switch or for a quoter."""
        self._progress.set()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._progress.clear()
            await self._progress.wait()

    def status(self) -> MakerStatus:
        """Return what the maker does for each symbol now."""
        seen, state = self._switch.seen, self._switch.seen.state
        symbols = [quoter.status() for quoter in self._quoters.values()]
        return MakerStatus(paused=state.pauses, switch=state.value, switched_by=seen.by, symbols=symbols)

    def _notices(self) -> dict[str, str]:
        """Return which symbols should be quoted but are not, and why."""
        if self._switch.seen.state.pauses:
            return {}
        return notices(quoter.status() for quoter in self._quoters.values())

    def _report(self, lagging: int) -> ProcessReport:
        """Return this process's report, including the symbols that are not quoted."""
        named, more = unquoted(quoter.status() for quoter in self._quoters.values() if not quoter.quoting)
        return replace(self._health.process(lagging), unquoted=named, more_unquoted=more)

    def measure(self) -> None:
        """Set the gauges that show state."""
        metrics.SYMBOLS.set(sum(quoter.is_quoted for quoter in self._quoters.values()))
        metrics.PRIMARY.set(sum(quoter.is_first for quoter in self._quoters.values()))
        metrics.MAKERS.set(len(self._presence.members.names))
        metrics.QUOTING.set(sum(quoter.quoting for quoter in self._quoters.values()))
        metrics.NOT_QUOTED.clear()
        for symbol, reason in not_quoted(quoter.status() for quoter in self._quoters.values()).items():
            metrics.NOT_QUOTED.labels(symbol, reason).set(1)
        metrics.SYMBOLS_PAUSED.set(sum(quoter.paused for quoter in self._quoters.values()))
        metrics.PAUSED.set(self._switch.seen.state.pauses)
        value = self._switch.seen.value
        metrics.SWITCH.set(value is not None and value.paused)

    # --- instruments --------------------------------------------------------------------------------------------------

    def _relist(self, listings: Mapping[str, Listing]) -> None:
        """Update the listings. A newly listed symbol gets a quoter."""
        added = [symbol for symbol in listings if symbol not in self._quoters]
        for symbol, listing in listings.items():
            if symbol in self._quoters:
                self._quoters[symbol].relist(listing)
            else:
                self._quoters[symbol] = self._open(symbol, listing)
        if added:
            self._rendezvous = Rendezvous(self._quoters)
            self._rank_makers()
            self._apply_switch()
        else:
            self._feeds_changed()

    def _open(self, symbol: str, listing: Listing) -> Quoter:
        quoter = Quoter(
            self._unlisted.pop(symbol, View(SymbolMarket(symbol))),
            listing,
            self._connection,
            self.clock,
            self._windows[subjects.shard_of(symbol, self._settings.market.shards)],
            self._notify_progress,
            rpc_timeout=self._settings.rpc_timeout,
        )
        quoter.pause_for_loss(self._losses.latches.pause_of(symbol))
        if self._stopping:
            quoter.stop()
        if self._group is not None:
            self._group.create_task(quoter.run())
        return quoter

    def _view(self, symbol: str) -> View:
        """Return the view of a symbol, listed or not."""
        quoter = self._quoters.get(symbol)
        return quoter.view if quoter is not None else self._unlisted.setdefault(symbol, View(SymbolMarket(symbol)))

    # --- other makers -------------------------------------------------------------------------------------------------

    def _is_able(self) -> bool:
        """True if this maker can quote."""
        return (
            self._positions_current
            and all(self._market_current.values())
            and self._switch.current
            and self._losses.current
            and self._listings.current
            and self.clock.is_trusted
            and self._connection.connected
        )

    def _rank_makers(self) -> None:
        """Rank the makers that are present now, and set how long each quoter stands by."""
        members = self._presence.members
        ranks = self._rendezvous.ranks(members.own, members.names)
        for symbol, quoter in self._quoters.items():
            quoter.stand_by(timedelta(seconds=ranks[symbol] * self._settings.standby_delay))
        first = sum(quoter.is_first for quoter in self._quoters.values())
        log.info("makers share the symbols", makers=len(members.names), first=first)

    # --- feeds --------------------------------------------------------------------------------------------------------

    async def _follow_positions(self) -> None:
        tail = Bootstrap(
            self._connection, subjects.POSITIONS_STREAM, [subjects.POSITIONS], is_position, name="maker-positions"
        )
        async for batch in tail.batches():
            for message in batch:
                self._on_position(message)
            if self._positions_current != tail.current:
                self._positions_current = tail.current
                self._feeds_changed()

    async def _follow_market(self, shard: int) -> None:
        tail = MarketBootstrap(
            self._connection, shard, self._settings.market.shards, self._published, name="maker-market"
        )
        async for batch in tail.batches():
            for message in batch:
                self._on_market(message, begins=tail.begins(message))
            if self._market_current[shard] != tail.current:
                self._market_current[shard] = tail.current
                self._feeds_changed()

    def _on_position(self, message: Message) -> None:
        symbol = subjects.last_token(message.subject)
        quoter = self._quoters.get(symbol)
        try:
            update = _positions.decode(message.data)
            if update.symbol != symbol:
                self._quarantine(subjects.POSITIONS_STREAM, message, "it names another symbol than its subject")
            elif quoter is not None:
                quoter.on_position(update, tracing.extract(message.headers))
            elif subjects.is_name(symbol):
                self._view(symbol).update_position(update.position)
        except DECODE_ERRORS as error:
            self._quarantine(subjects.POSITIONS_STREAM, message, str(error))

    def _on_market(self, message: Message, *, begins: bool) -> None:
        symbol = subjects.last_token(message.subject)
        if not subjects.in_home_shard(message.subject, self._settings.market.shards):
            self._quarantine(subjects.stream_of(message.subject), message, "it is in another shard than its symbol")
            return
        if not subjects.is_name(symbol):
            return
        market, quoter = self._view(symbol).market, self._quoters.get(symbol)
        try:
            if message.subject.startswith("quotes."):
                event = _quote_events.decode(message.data)
                if message.sequence > market.head and not market.apply_quote(message.sequence, event):
                    self._quarantine(
                        subjects.stream_of(message.subject), message, "it names another symbol than its subject"
                    )
            else:
                self._on_fills(market, quoter, message, begins=begins)
        except DECODE_ERRORS as error:
            self._quarantine(subjects.stream_of(message.subject), message, str(error))
        if quoter is not None:
            quoter.wake()

    def _on_fills(self, market: SymbolMarket, quoter: Quoter | None, message: Message, *, begins: bool) -> None:
        if message.sequence <= market.head:
            return
        fills, fault = fill_validation.read(message.subject, message.data, self._settings.market.shards)
        fault = fault or market.fold_fills(message.sequence, fills, begins=begins)
        if fault is not None:
            self._quarantine(subjects.stream_of(message.subject), message, str(fault))
        elif quoter is not None:
            quoter.on_fills(fills, tracing.extract(message.headers))

    def _quarantine(self, stream: str, message: Message, why: str) -> None:
        self._health.quarantined(stream)
        log.error("message quarantined", subject=message.subject, sequence=message.sequence, error=why)

    def _feeds_changed(self) -> None:
        """Report to health and to the quoters which feeds are current."""
        lagging = [subjects.market_stream(shard) for shard, current in self._market_current.items() if not current]
        if self._positions_current:
            self._health.fine("positions")
        else:
            self._health.waits("positions", f"{subjects.POSITIONS_STREAM} is not current")
        if lagging:
            self._health.waits("market", f"{', '.join(lagging)} not current")
        else:
            self._health.fine("market")
        if self._switch.seen.state is SwitchState.HOLDING:
            self._health.waits("switch", "it is not known whether the pause requested here applies to all makers")
        elif self._switch.current and self._losses.current:
            self._health.fine("switch")
        else:
            self._health.waits("switch", f"{SWITCHES} is not current")
        switches = self._switch.current and self._losses.current
        known = self._positions_current and switches and self._listings.current and self.clock.is_trusted
        for symbol, quoter in self._quoters.items():
            market_current = self._market_current[subjects.shard_of(symbol, self._settings.market.shards)]
            current = market_current and known
            if (quoter.view.market_current, quoter.view.current) != (market_current, current):
                quoter.view.market_current, quoter.view.current = market_current, current
                quoter.wake()
