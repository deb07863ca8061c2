"""One symbol's lane: commands queue, one commit at a time decides and appends them, then they are answered.

Group commit: while an append is in flight, arriving orders queue; the next commit matches all of them and appends one
message. A command whose client has given up is dropped before it is decided, never after.
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
"""Orders one commit takes: their fills stay well below the broker's payload limit."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Withdraw:
    """Withdraw a quote. `quote_id` None: the one that is active when this is first decided, and it is named then."""

    quote_id: str | None
    span: tracing.AnySpan
    asker: str | None


_Command = Order | PendingQuote | _Withdraw
_Answer = OrderResult | Quote
_Queued = QueuedCommand[_Command, _Answer]


class Lane:
    """The shell around one symbol's book.

    Attributes:
        log: the symbol's log.
        market: the fold of it.
        listing: the instrument; None while nothing defines it here.
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
        """Execute an order of `asker`'s, or find out what became of it. The answer may be a refusal: its id was used
        with other content, or the outcome is not known in time.

        Raises:
            Refused: too much is waiting already.
        """
        self._queue.check_overload()
        impossible: Refused | None = None
        try:
            order = book.checked_order(order, self._listed.instrument)
        except Refused as refused:  # unless it executed before, when the tick was another
            impossible = refused
        answer = cast("asyncio.Future[OrderResult]", self._queue.submit(order, asker=asker, impossible=impossible))
        if tracing.tracer is not None:
            self._spans.begin(order, answer)
        return answer

    async def put_quote(self, request: QuoteRequest, asker: str | None) -> Quote:
        """Make a quote active: have its reservation activated, then append the event.

        Raises:
            Refused: it is stale, its reservation does not carry it, the asker wants a newer one, or the outcome is not
                known in time.
        """
        request = book.of_revision(self.market, request, self._listed.revision)
        try:
            async with asyncio.timeout(DEADLINE):
                accepted = await self._accepted(request)
        except TimeoutError as error:
            raise Refused(Refusal.UNAVAILABLE, "this exchange is behind the market log; nothing was done") from error
        if accepted is not None:
            return accepted
        return await self._pending_quotes.put(book.checked_quote(request, self._listed.instrument), asker)

    def is_behind(self, revision: int) -> bool:
        """Whether that revision of the instrument is newer than what is known here."""
        return revision > self._listed.revision

    @property
    def _listed(self) -> Listing:
        """The instrument. Whoever commands has seen that there is one, and none is taken away."""
        if self.listing is None:
            raise AssertionError(f"{self._symbol} takes no command: nothing defines it")
        return self.listing

    def _submit_change(self, command: "PendingQuote | _Withdraw") -> "asyncio.Future[Quote]":
        answer = self._queue.submit(command, change=True)
        if self._permit is not None:
            self._permit.wake()
        return cast("asyncio.Future[Quote]", answer)

    async def _accepted(self, request: QuoteRequest) -> Quote | None:
        """The quote if it is the latest one; None if it may become so. Only the log's head refuses its attempt."""
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
        """Withdraw the active quote, as `asker` wishes; with `quote_id`, only if it is that one. Answers the quote as
        it was.

        Raises:
            Refused: no quote is active, another one is, or the outcome is not known in time.
        """
        return await self._submit_change(_Withdraw(quote_id, tracing.current(), asker))

    async def settle(self, seconds: float) -> None:
        """Wait until every command has its answer, or for so long; then refuse those that have none."""
        await self._queue.settle(seconds)

    # --- commits ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Commit what arrives, until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._pending_quotes.run_in(group)
            while True:
                await self._queue.arrived()
                await self._commit_next()

    async def _commit_next(self) -> None:
        """Commit a quote or a withdrawal, if one waits, and then the orders that wait: what they come to depends on it.
        Orders wait for a permit, and are overtaken while they do, unless nothing is left that they could execute on.
        """
        if self._queue.change_waits:
            await self._commit_change()
        if not self._queue.order_waits:
            return
        if not book.executes(self.market, self._clock()):
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
            impossible = {order: each.impossible for order, each in zip(orders, batch, strict=True) if each.impossible}
            decided = book.match(self.market, orders, self._dedup, now, instrument, askers, impossible)
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
                # A rejection, too, is the truth only on the log's head: the order may have executed elsewhere.
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
            raise AssertionError("what is to be committed was activated")
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
            event = book.activate(self._symbol, pending.request, pending.reservation, self._clock(), pending.kept_asker)
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

    async def _commit_withdrawal(self, queued: _Queued, wanted: _Withdraw) -> Quote:
        while True:
            queued.check_wanted()
            now = self._clock()
            try:
                event = book.withdraw(self.market, wanted.quote_id, now, wanted.asker)
            except Refused:
                if not await self._is_final():
                    continue
                raise
            wanted.quote_id = event.quote_id  # a newer one, that came first to the log, is not meant
            quote = book.active_quote(self.market, now)
            queued.committing = True
            if await self._append_event(event, wanted.span):
                break
            queued.committing = False
        metrics.QUOTES.labels("withdrawn").inc()
        log.info("quote withdrawn", symbol=self._symbol, quote_id=event.quote_id, attempt=event.attempt)
        return quote

    async def _is_final(self) -> bool:
        """Whether what was just refused on this book is refused for good: it was decided on the log's head, and nothing
        that was decided on the same head can land any more and contradict it. If not, decide again.

        Raises:
            Refused: UNAVAILABLE: the broker is away, or does not let us write.
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
        # By its version, which no other event of the symbol has: an outsider's quote id may come again.
        msg_id = f"{ids.quote_id(self._symbol, event.version)}-{event.__struct_config__.tag}"
        with tracing.span("append", span, subject=self._quotes, msg_id=msg_id):
            sequence = await self.log.append(self._quotes, msgspec.json.encode(event), msg_id, tracing.inject())
        if sequence is None:
            return False
        self.market.apply_quote(sequence, event)
        self._on_quote(self.market)
        return True


def _log_orders(decided: book.Batch) -> None:
    """Name every order. At `debug` only: there may be thousands a second."""
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
    """Count an order that is refused, and name it at `debug`."""
    if isinstance(command, Order):
        metrics.ORDERS.labels(refused.refusal.slug).inc()
        log.debug("refused", order_id=command.order_id, symbol=command.symbol, reason=refused.refusal.slug)
