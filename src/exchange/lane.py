"""One symbol's lane: queues the commands, decides and appends them in one commit at a time, and answers them.

Group commit: while an append is in flight, arriving orders queue. The next commit matches all of them and appends one
message. A command whose client has given up is dropped before it is decided, never afterwards.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import msgspec
import structlog

from exchange import book, metrics
from exchange.append_gate import AppendGate, Permit
from exchange.command_queue import DEADLINE, CommandQueue, QueuedCommand
from exchange.order_dedup import OrderDedup
from exchange.pending_quotes import PendingQuote, PendingQuotes
from exchange.spans import OrderSpans
from exchange.symbol_log import SymbolLog
from jet.connection import Connection
from process import tracing
from process.clock import Clock
from wire import ids, subjects
from wire.errors import Refusal, Refused
from wire.instruments import Listing
from wire.market import SymbolMarket
from wire.orders import Order, OrderResult
from wire.quotes import Quote, QuoteEvent, QuoteRequest

MAX_BATCH = 500
"""Orders in one commit, at most: their fills stay well below the broker's payload limit."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Withdraw:
    """Withdraw a quote. `quote_id` None means the quote that is active at the first decision, which then sets it."""

    quote_id: str | None
    span: tracing.AnySpan
    asker: str | None


_Command = Order | PendingQuote | _Withdraw
_Answer = OrderResult | Quote
_Queued = QueuedCommand[_Command, _Answer]


class Lane:
    """The shell around one symbol's book.

    Attributes:
        log: the symbol's market log.
        market: the fold of that log.
        listing: the instrument; None while no definition of it is known here.
    """

    def __init__(
        self,
        symbol: str,
        shard: int,
        connection: Connection,
        clock: Clock,
        dedup: OrderDedup,
        gate: AppendGate,
        on_quote: Callable[[SymbolMarket], None],
    ) -> None:
        self.log = SymbolLog(symbol, shard, connection)
        self.market = self.log.market
        self.listing: Listing | None = None
        self._symbol = symbol
        self._shard = shard
        self._connection = connection
        self._clock = clock
        self._dedup = dedup
        self._gate = gate
        self._permit: Permit | None = None
        self._on_quote = on_quote
        self._fills = subjects.fills(shard, symbol)
        self._quotes = subjects.quotes(shard, symbol)
        self._queue: CommandQueue[_Command, _Answer] = CommandQueue(symbol, count_refused)
        self._pending_quotes = PendingQuotes(symbol, connection, self._submit_change)
        self._spans = OrderSpans()

    # --- commands ---------------------------------------------------------------------------------------------------

    def order(self, order: Order, asker: str | None = None) -> "asyncio.Future[OrderResult]":
        """Queue an order sent by `asker`, and return the future of its answer.

        An order that has executed gets its first answer. The future raises Refused if the order id was used with other
        content, or the outcome is not known in time.

        Raises:
            Refused: OVERLOADED: too many orders wait.
        """
        self._queue.check_overload()
        invalid: Refused | None = None
        try:
            order = book.checked_order(order, self._listed.instrument)
        except Refused as refused:  # it may have executed earlier, when the tick was different
            invalid = refused
        answer = cast("asyncio.Future[OrderResult]", self._queue.submit(order, asker=asker, invalid=invalid))
        if tracing.tracer is not None:
            self._spans.begin(order, answer)
        return answer

    async def put_quote(self, request: QuoteRequest, asker: str | None) -> Quote:
        """Make a quote active: activate its reservation at exposure, then append the event.

        Raises:
            Refused: the quote is stale, its reservation does not cover it, the asker has requested a newer one, or the
                outcome is not known in time.
        """
        request = book.with_revision(self.market, request, self._listed.revision)
        try:
            async with asyncio.timeout(DEADLINE):
                accepted = await self._accepted(request)
        except TimeoutError as error:
            raise Refused(Refusal.UNAVAILABLE, "this exchange lags behind the market log; nothing was done") from error
        if accepted is not None:
            return accepted
        return await self._pending_quotes.put(book.checked_quote(request, self._listed.instrument), asker)

    def lacks_revision(self, revision: int) -> bool:
        """Return True if a revision of the instrument is newer than the one known here."""
        return revision > self._listed.revision

    @property
    def _listed(self) -> Listing:
        """The instrument. Commands reach a lane only once it is listed, and it stays listed."""
        if self.listing is None:
            raise AssertionError(f"{self._symbol} takes no commands: it is not defined")
        return self.listing

    def _submit_change(self, command: "PendingQuote | _Withdraw") -> "asyncio.Future[Quote]":
        answer = self._queue.submit(command, change=True)
        if self._permit is not None:
            self._permit.wake()
        return cast("asyncio.Future[Quote]", answer)

    async def _accepted(self, request: QuoteRequest) -> Quote | None:
        """Return the quote if it is already the latest; None if it may become the latest.

        An attempt is refused as too far only if the fold is at the log's head.
        """
        while True:
            accepted = book.accepted_quote(self.market, request)
            if accepted is not None and not await self.log.catch_up():
                return accepted
            if accepted is not None:
                continue
            book.check_listing(self._listed, request)
            try:
                book.check_attempt(self.market, request)
            except Refused:
                if not await self.log.catch_up():
                    raise
            else:
                return None

    async def withdraw(self, quote_id: str | None = None, asker: str | None = None) -> Quote:
        """Withdraw the active quote, as requested by `asker`; with `quote_id`, only that quote. Return it as it was.

        Raises:
            Refused: no quote is active, another quote is active, or the outcome is not known in time.
        """
        return await self._submit_change(_Withdraw(quote_id, tracing.current(), asker))

    async def settle(self, seconds: float) -> None:
        """Wait up to `seconds` until every command is answered, then refuse the rest."""
        await self._queue.settle(seconds)

    # --- commits ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Commit the commands that arrive, until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._pending_quotes.run_in(group)
            while True:
                await self._queue.arrived()
                await self._commit_next()

    async def _commit_next(self) -> None:
        """Commit a waiting quote or withdrawal, if any, and then the waiting orders, whose outcome depends on it.

        Orders need a permit, unless there is no quantity left for them to execute against. Quotes and withdrawals that
        arrive while they wait for it are committed first.
        """
        if self._queue.change_waits:
            await self._commit_change()
        if not self._queue.order_waits:
            return
        if not book.can_execute(self.market, self._clock()):
            await self._commit_orders(self._take_orders(), None)
            return
        permit = self._permit = self._gate.enter()
        try:
            while not permit.granted:
                if self._queue.change_waits:
                    await self._commit_change()
                else:
                    await permit.changed()
            await self._commit_orders(self._take_orders(), permit)
        finally:
            permit.release()

    async def _commit_change(self) -> None:
        queued = self._queue.take_change()
        command = queued.command
        try:
            if isinstance(command, PendingQuote):
                quote = await self._commit_put(queued, command)
            else:
                quote = await self._commit_withdrawal(queued, cast("_Withdraw", command))
        except Refused as refused:
            self._queue.refuse(queued, refused)
        else:
            self._queue.reply(queued, quote)

    def _take_orders(self) -> list[_Queued]:
        taken: list[_Queued] = []
        self._queue.observe_wait()
        while self._queue.order_waits and len(taken) < MAX_BATCH:
            taken.append(self._queue.take_order())
        return taken

    async def _commit_orders(self, batch: list[_Queued], permit: Permit | None) -> None:
        while batch := [queued for queued in batch if queued.wanted]:
            orders = [queued.command for queued in batch if isinstance(queued.command, Order)]
            now = self._clock()
            askers = [queued.asker for queued in batch]
            instrument = self._listed.instrument
            invalid = {order: each.invalid for order, each in zip(orders, batch, strict=True) if each.invalid}
            decided = book.match(self.market, orders, self._dedup, now, instrument, askers, invalid)
            if decided.fills:
                self._dedup.begin(decided.fills)
                for queued in batch:
                    queued.committing = True
                payload = msgspec.json.encode(decided.fills)
                try:
                    fill_id = decided.fills[0].fill_id
                    if tracing.tracer is None:
                        sequence = await self.log.append(self._fills, payload, fill_id)
                    else:
                        spans = self._spans.of(decided.fills)
                        sequence = await self.log.append_traced(self._fills, payload, fill_id, spans)
                except Refused as refused:
                    self._dedup.abort(decided.fills)
                    for queued in batch:
                        self._queue.refuse(queued, refused)
                    return
                if sequence is None:
                    self._dedup.abort(decided.fills)
                    for queued in batch:
                        queued.committing = False
                    continue
                self.market.apply_own(sequence, decided.fills)
                self._dedup.commit(self._shard, decided.fills)
                metrics.FILLS.inc(len(decided.fills))
                metrics.FILLED_LOTS.inc(sum(fill.quantity for fill in decided.fills))
            elif decided.rejected:
                # A rejection is valid only at the log's head, too: the order may have executed on another exchange.
                if permit is not None:
                    permit.release()
                try:
                    if not await self._is_final():
                        continue
                except Refused as unavailable:
                    for queued in batch:
                        self._queue.refuse(queued, unavailable)
                    return
            metrics.count(decided.answers)
            if log.is_enabled_for(logging.DEBUG):
                _log_orders(decided)
            for queued, answer in zip(batch, decided.answers, strict=True):
                if isinstance(answer, Refused):
                    self._queue.refuse(queued, answer)
                else:
                    self._queue.reply(queued, answer)
            return

    async def _commit_put(self, queued: _Queued, pending: PendingQuote) -> Quote:
        pending.begun = True
        try:
            return await self._commit_quote(queued, pending)
        except Refused as refused:
            metrics.QUOTES.labels(refused.refusal.slug).inc()
            self._pending_quotes.deactivate(pending)
            raise
        finally:
            pending.committed.set()

    async def _commit_quote(self, queued: _Queued, pending: PendingQuote) -> Quote:
        if pending.reservation is None:
            raise AssertionError("a quote is committed only with its reservation activated")
        while True:
            accepted = book.accepted_quote(self.market, pending.request)
            if accepted is not None:
                return accepted
            queued.check_wanted()
            pending.check_wanted()
            book.check_listing(self._listed, pending.request)
            try:
                book.check_position(self.market, pending.request)
            except Refused:
                if await self.log.catch_up():
                    continue
                raise
            event = book.activate(
                self._symbol, pending.request, pending.reservation, self._clock(), pending.asker_digest
            )
            queued.committing = True
            if await self._append_event(event, pending.span):
                break
            queued.committing = False
        metrics.QUOTES.labels("activated").inc()
        log.info(
            "quote active",
            symbol=self._symbol,
            quote_id=event.quote_id,
            reservation_id=event.reservation_id,
            position_version=event.position_version,
            revision=event.revision,
            attempt=event.attempt,
            expires_at=event.expires_at,
        )
        return book.quote_of(event)

    async def _commit_withdrawal(self, queued: _Queued, withdrawal: _Withdraw) -> Quote:
        while True:
            queued.check_wanted()
            now = self._clock()
            try:
                event = book.withdraw(self.market, withdrawal.quote_id, now, withdrawal.asker)
            except Refused:
                if not await self._is_final():
                    continue
                raise
            withdrawal.quote_id = event.quote_id  # a newer quote that is appended before this one is not withdrawn
            quote = book.active_quote(self.market, now)
            queued.committing = True
            if await self._append_event(event, withdrawal.span):
                break
            queued.committing = False
        metrics.QUOTES.labels("withdrawn").inc()
        log.info("quote withdrawn", symbol=self._symbol, quote_id=event.quote_id, attempt=event.attempt)
        return quote

    async def _is_final(self) -> bool:
        """Return True if a refusal that was just decided on this book is final; if not, decide again.

        It is final if it was decided at the log's head, and no append that was decided on the same head can still land
        and contradict it.

        Raises:
            Refused: UNAVAILABLE: the broker is away, or does not accept the append.
        """
        if await self.log.catch_up():
            return False
        ended = book.expiry(self.market, self._clock())
        if ended is None:
            return True
        if not await self._append_event(ended, None):
            return False
        metrics.QUOTES.labels("expired").inc()
        log.info("quote expired", symbol=self._symbol, quote_id=ended.quote_id, attempt=ended.attempt)
        return True

    async def _append_event(self, event: QuoteEvent, span: tracing.AnySpan) -> bool:
        """Append a quote event and fold it. False if the head had moved: decide again."""
        # From the version, which is unique in the symbol: a client may use its own quote id more than once.
        msg_id = f"{ids.quote_id(self._symbol, event.version)}-{event.__struct_config__.tag}"
        with tracing.span("append", span, subject=self._quotes, msg_id=msg_id):
            sequence = await self.log.append(self._quotes, msgspec.json.encode(event), msg_id, tracing.inject())
        if sequence is None:
            return False
        self.market.apply_quote(sequence, event)
        self._on_quote(self.market)
        return True


def _log_orders(decided: book.Batch) -> None:
    """Log every order, at `debug` only: there may be thousands per second."""
    for fill in decided.fills:
        log.debug(
            "filled",
            order_id=fill.order_id,
            symbol=fill.symbol,
            fill_id=fill.fill_id,
            quote_id=fill.quote_id,
            position_version=fill.number,
        )
    for answer in decided.answers:
        if isinstance(answer, OrderResult) and answer.reason is not None:
            log.debug("rejected", order_id=answer.order_id, symbol=answer.symbol, reason=answer.reason)


def count_refused(command: _Command, refused: Refused) -> None:
    """Count a refused order, and log it at `debug`."""
    if isinstance(command, Order):
        metrics.ORDERS.labels(refused.refusal.slug).inc()
        log.debug("refused", order_id=command.order_id, symbol=command.symbol, reason=refused.refusal.slug)
