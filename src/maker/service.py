"""The maker's shell: two feeds into one view a symbol, one quoter a symbol, and what the kill switch does.

Positions come from `POSITIONS`, from the last of each symbol on; the market log from each shard that a symbol lives in,
from the last quote event and the last fills of each. A symbol is acted on only while both feeds and the switch are
current and our clock agrees with the broker's.
"""

import asyncio
from datetime import timedelta
from typing import Annotated

import msgspec
import structlog
from msgspec import Meta

from jet.clocks import Agreement
from jet.connection import Connection
from jet.tail import LastPerSubject, Message, Tail
from maker import metrics
from maker.proposal import fair_share
from maker.quoter import Quoter
from maker.status import MakerStatus, not_quoted, notices
from maker.switch import STREAM as SWITCHES
from maker.switch import Switch
from runtime import tracing
from runtime.clock import Clock
from runtime.health import Health
from runtime.settings import Port, Seconds, ServiceSettings
from wire import counting, subjects
from wire.errors import Refusal, Refused
from wire.messages import UNREADABLE, PositionUpdate, QuoteEvent

PAUSE_DEADLINE = 5.0
"""Seconds a pause may take until the switch stands so and every withdrawal is known done."""

STOP_DEADLINE = 2.0
"""Seconds for withdrawing our own quotes when the process stops."""

log = structlog.get_logger()

_positions = msgspec.json.Decoder(PositionUpdate)
_quote_events = msgspec.json.Decoder(QuoteEvent)


class MakerSettings(ServiceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The maker's settings.

    Attributes:
        standby_delay: seconds to leave everything that is due to other makers first; a spare sets 1 or so.
        rpc_timeout: seconds to wait for an answer before the identical request is sent again.
    """

    port: Port = 8004
    standby_delay: Annotated[float, Meta(ge=0, le=3600)] = 0.0
    rpc_timeout: Seconds = 1.0


class Maker:
    """The service. `run` it until cancelled; `stop` it first."""

    def __init__(self, settings: MakerSettings, connection: Connection, health: Health, clock: Clock) -> None:
        self._settings = settings
        self._connection = connection
        self._health = health
        health.notes(lambda: {} if self.paused else notices(quoter.status() for quoter in self._quoters.values()))
        self._clock = clock
        market = settings.market
        share = fair_share(market.limit, len(market.symbols))
        self._quoters = {
            symbol: Quoter(
                symbol,
                instrument,
                share,
                connection,
                clock,
                standby=timedelta(seconds=settings.standby_delay),
                rpc_timeout=settings.rpc_timeout,
            )
            for symbol, instrument in market.symbols.items()
        }
        self._shards = {symbol: subjects.shard_of(symbol, market.shards) for symbol in market.symbols}
        self._positions_current = False
        self._market_current = dict.fromkeys(sorted(set(self._shards.values())), False)
        self._agreement = Agreement(
            connection, subjects.POSITIONS_STREAM, clock, health, market.grace, self._feeds_changed
        )
        self._switch = Switch(connection, clock, self._switched)
        self._stood = False
        self._held = False  # paused here, and not known to stand so for all
        self._pausing: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Follow the feeds and keep every symbol quoted until cancelled."""
        async with self._connection, asyncio.TaskGroup() as group:
            group.create_task(self._connection.failed())
            group.create_task(self._agreement.run())
            group.create_task(self._switch.run())
            group.create_task(self._follow_positions())
            for shard in self._market_current:
                group.create_task(self._follow_market(shard))
            for quoter in self._quoters.values():
                group.create_task(quoter.run())

    async def stop(self) -> None:
        """Withdraw the quotes that this process made, as far as that can be known in time; the rest expire."""
        unknown = await self._end_quotes(own_only=True, timeout=STOP_DEADLINE)
        if unknown:
            log.warning("stopping with withdrawals not confirmed", symbols=unknown)

    # --- the kill switch ----------------------------------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        """Whether nothing is to be quoted."""
        return self._held or bool(self._switch.paused)

    async def pause(self) -> MakerStatus:
        """Stop quoting, have every maker stop, and withdraw the quote of every symbol, whoever made it.

        Pausing again is harmless.

        Raises:
            Refused: OUTCOME_UNKNOWN: quoting has stopped here, but a quote may still be active, or another maker may
                not know. Ask again.
        """
        self._held = True
        unknown, stands = await asyncio.gather(
            self._end_quotes(own_only=False, timeout=PAUSE_DEADLINE), self._turn(paused=True)
        )
        if unknown:
            log.error("paused with withdrawals not confirmed", symbols=unknown)
            raise Refused(
                Refusal.OUTCOME_UNKNOWN, f"paused, but quotes may still be active on {', '.join(unknown)}: pause again"
            )
        if not stands:
            raise Refused(
                Refusal.OUTCOME_UNKNOWN,
                "this maker has paused, but others may not have, and a restart may end it: pause again",
            )
        self._held = False
        return self.status()

    async def resume(self) -> MakerStatus:
        """Quote again, and have every maker do so. Resuming what is not paused is harmless.

        Raises:
            Refused: OUTCOME_UNKNOWN: the switch may still stand as it did. Ask again.
        """
        if not await self._turn(paused=False):
            raise Refused(Refusal.OUTCOME_UNKNOWN, "it is not known whether makers have resumed: resume again")
        self._held = False
        for quoter in self._quoters.values():
            quoter.resume()
        return self.status()

    async def _turn(self, *, paused: bool) -> bool:
        """Turn the switch. Whether it is known to stand so."""
        try:
            async with asyncio.timeout(PAUSE_DEADLINE):
                await self._switch.turn(paused=paused)
        except (Refused, TimeoutError) as error:
            log.error("the switch is not known to be turned", paused=paused, error=str(error))  # noqa: TRY400 # it says all
            return False
        return True

    def _switched(self) -> None:
        """The switch stands otherwise, or is current, or is not."""
        if (stands := bool(self._switch.paused)) != self._stood:
            self._stood = stands
            log.warning("paused" if stands else "resumed")
            if not self._held:
                self._obey(paused=stands)
        self._feeds_changed()

    def _obey(self, *, paused: bool) -> None:
        """Do as another maker was told, or as this one was before it was restarted."""
        for quoter in self._quoters.values():
            quoter.pause() if paused else quoter.resume()
        if paused:
            task = asyncio.create_task(self._end_all())
            self._pausing.add(task)
            task.add_done_callback(self._pausing.discard)

    async def _end_all(self) -> None:
        if unknown := await self._end_quotes(own_only=False, timeout=PAUSE_DEADLINE):
            log.error("paused with withdrawals not confirmed", symbols=unknown)

    async def _end_quotes(self, *, own_only: bool, timeout: float) -> list[str]:
        """Stop quoting and end the quotes, all symbols at once. Returns the symbols where that is not known done."""
        for quoter in self._quoters.values():
            quoter.pause()

        async def unconfirmed(quoter: Quoter) -> str | None:
            try:
                async with asyncio.timeout(timeout):
                    await quoter.end_quote(own_only=own_only)
            except TimeoutError:
                return quoter.symbol
            return None

        symbols = await asyncio.gather(*(unconfirmed(quoter) for quoter in self._quoters.values()))
        return [symbol for symbol in symbols if symbol]

    def status(self) -> MakerStatus:
        """What the maker does about each symbol now."""
        return MakerStatus(paused=self.paused, symbols=[quoter.status() for quoter in self._quoters.values()])

    def count(self) -> None:
        """Set the gauges that are read off state."""
        metrics.SYMBOLS.set(len(self._quoters))
        metrics.QUOTING.set(sum(quoter.quoting for quoter in self._quoters.values()))
        metrics.NOT_QUOTED.clear()
        for symbol, reason in not_quoted(quoter.status() for quoter in self._quoters.values()).items():
            metrics.NOT_QUOTED.labels(symbol, reason).set(1)
        metrics.PAUSED.set(self.paused)

    # --- feeds --------------------------------------------------------------------------------------------------------

    async def _follow_positions(self) -> None:
        tail = Tail(
            self._connection, subjects.POSITIONS_STREAM, [subjects.POSITIONS], LastPerSubject(), name="maker-positions"
        )
        async for batch in tail.batches():
            for message in batch:
                self._on_position(message)
            if self._positions_current != tail.current:
                self._positions_current = tail.current
                self._feeds_changed()

    async def _follow_market(self, shard: int) -> None:
        stream = subjects.market_stream(shard)
        filters = [subjects.quotes(shard, "*"), subjects.fills(shard, "*")]
        tail = Tail(self._connection, stream, filters, LastPerSubject(), name="maker-market")
        async for batch in tail.batches():
            for message in batch:
                self._on_market(message)
            if self._market_current[shard] != tail.current:
                self._market_current[shard] = tail.current
                self._feeds_changed()

    def _on_position(self, message: Message) -> None:
        quoter = self._quoters.get(subjects.last_token(message.subject))
        if quoter is None:
            return
        try:
            update = _positions.decode(message.data)
            if update.symbol != quoter.symbol:
                self._set_aside(subjects.POSITIONS_STREAM, message, "it is of another symbol")
            else:
                quoter.moved(update, tracing.extract(message.headers))
        except UNREADABLE as error:
            self._set_aside(subjects.POSITIONS_STREAM, message, str(error))

    def _on_market(self, message: Message) -> None:
        quoter = self._quoters.get(subjects.last_token(message.subject))
        if not subjects.at_home(message.subject, self._settings.market.shards):
            self._set_aside(subjects.stream_of(message.subject), message, "it is in another shard than its symbol")
            return
        if quoter is None:
            return
        market = quoter.view.market
        try:
            if message.subject.startswith("quotes."):
                market.apply_quote(message.sequence, _quote_events.decode(message.data))
            else:
                self._on_fills(quoter, message)
        except UNREADABLE as error:
            self._set_aside(subjects.stream_of(message.subject), message, str(error))
        quoter.wake()

    def _on_fills(self, quoter: Quoter, message: Message) -> None:
        market = quoter.view.market
        if message.sequence <= market.head:
            return
        fills, fault = counting.read(message.subject, message.data, self._settings.market.shards)
        fault = fault or market.fold_fills(message.sequence, fills)
        if fault is None:
            quoter.filled(fills, tracing.extract(message.headers))
        else:
            self._set_aside(subjects.stream_of(message.subject), message, str(fault))

    def _set_aside(self, stream: str, message: Message, why: str) -> None:
        self._health.set_aside(stream)
        log.error("message set aside", subject=message.subject, sequence=message.sequence, error=why)

    def _feeds_changed(self) -> None:
        """Tell health and the quoters which feeds are current."""
        behind = [subjects.market_stream(shard) for shard, current in self._market_current.items() if not current]
        if self._positions_current:
            self._health.fine("positions")
        else:
            self._health.waits("positions", f"{subjects.POSITIONS_STREAM} is not current")
        if behind:
            self._health.waits("market", f"{', '.join(behind)} not current")
        else:
            self._health.fine("market")
        if self._switch.current:
            self._health.fine("switch")
        else:
            self._health.waits("switch", f"{SWITCHES} is not current")
        for symbol, quoter in self._quoters.items():
            fed = self._positions_current and self._market_current[self._shards[symbol]]
            current = fed and self._switch.current and self._agreement.agreed
            if quoter.view.current != current:
                quoter.view.current = current
                quoter.wake()
