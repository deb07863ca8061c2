"""One symbol's loop: decide, propose, reserve, shrink to the grant, publish; withdraw quotes that must not be active.

Ordering rules:
- One action at a time: an attempt or a withdrawal. So no attempt is under way during a withdrawal.
- A request without a reply is sent again, identical, until it is answered or `plan.obsolete_reason` gives up the
  attempt. Then the attempt's reservation is released, which also keeps its quote from becoming active later.
- Feeds and switches change `view` and call `wake`. Only this module talks to other services.
- The loop is level-triggered: after every change, the wanted state is decided again and compared with the actual one.
- An attempt needs a place in the window. A symbol that waits for one decides again when it gets it.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec
import structlog

from jet.connection import Connection
from maker import metrics, plan
from maker.cleanup import Cleanup
from maker.plan import Memory, Propose, Step, View, Wait, Withdraw
from maker.prefetch import Prefetch
from maker.proposal import propose, reservation_request, shrink
from maker.rpc_client import RpcClient, jitter, retry_delay
from maker.status import LastRefusal, SymbolStatus, symbol_status
from maker.window import Window
from process import tracing
from process.clock import Clock
from wire import ids
from wire.errors import Refusal, Refused
from wire.ids import QuoteVersion
from wire.instruments import Listing
from wire.orders import RecordedFill
from wire.positions import Position, PositionUpdate
from wire.quotes import PutQuote, Quote
from wire.reservations import ReservationAnswer, ReservationRequest
from wire.subjects import Rpc
from wire.switches import LossPaused

SETTLE = 1.0
"""Seconds to wait for releases before the loop decides again."""

T = TypeVar("T")
log = structlog.get_logger()


class Quoter:
    """Keeps one symbol quoted.

    Attributes:
        view: what the maker knows of the symbol from outside; call `wake` after changing it.
        listing: the instrument that is quoted; changed by `relist`.
    """

    def __init__(
        self,
        view: View,
        listing: Listing,
        connection: Connection,
        clock: Clock,
        window: Window,
        on_decision: Callable[[], None],
        *,
        rpc_timeout: float,
    ) -> None:
        """`window` limits concurrent attempts. `on_decision` is called after each decision: `has_withdrawn_all` or
        `has_stopped` may have become true."""
        self.symbol = symbol = view.market.symbol
        self.view = view
        self.listing = listing
        self._clock = clock
        self._window = window
        self._on_decision = on_decision
        self._standby = timedelta(0)
        self._memory = Memory()
        self._step: Step = Wait("waiting_for_feeds")
        self._last_refusal: LastRefusal | None = None
        self._arrived_at = 0.0  # loop time at which the newest position update arrived
        self._position_span: tracing.AnySpan = None  # the span that published it
        self._fill_span: tracing.AnySpan = None  # the span that appended the fills of the prefetch
        self._woken = asyncio.Event()
        self._attempting = False
        self._queued = False  # waiting for a place in the window
        self._price_checked = False  # for the newest position and listing
        self._failed_withdrawals = 0  # in a row
        self._group: asyncio.TaskGroup | None = None
        self._rpc = RpcClient(connection, rpc_timeout)
        self._cleanup = Cleanup(symbol, self._rpc, self.wake)
        self._prefetch = Prefetch(self._prefetch_reservation, self._cleanup.release_unneeded)
        self.relist(listing)

    def relist(self, listing: Listing) -> None:
        """Update the listing: the instrument, or its share of the limit, has changed."""
        before = self.view.revision, self.view.state
        self.listing = listing
        self.view.relist(listing)
        has_changed = before != (listing.revision, listing.instrument.state)
        if has_changed:
            self._price_checked = False
        # A queued symbol decides again when it gets a place: until then the price may move many more times.
        may_wait = self._queued and before[1] == listing.instrument.state
        if (has_changed and not may_wait) or (isinstance(self._step, Wait) and self._step.state == "no_reference"):
            self.wake()

    def wake(self) -> None:
        """Have the loop decide again: the view has changed."""
        self._woken.set()

    def on_position(self, update: PositionUpdate, span: tracing.AnySpan = None) -> None:
        """Handle a position update that `span` published. An update that is not newer is ignored."""
        if self.view.update_position(update.position):
            self._arrived_at = asyncio.get_running_loop().time()
            self._position_span = span
            self._price_checked = False
            self.wake()

    def on_fills(self, fills: Sequence[RecordedFill], span: tracing.AnySpan = None) -> None:
        """Prefetch the next quote's reservation, after fills that `span` appended were folded into the view. Does
        nothing if another maker comes first, an attempt is under way, or the window is full."""
        now = self._clock()
        self.view.filled_at = now
        position = plan.predicted_position(self.view, fills)
        if position is None or self._standby or self._attempting or self._group is None or self._window.is_full:
            return
        if plan.stale(self.view, self.view.revision, now):
            return
        proposal = propose(self.listing, position, 1)
        if proposal is not None:
            self._fill_span = span
            self._prefetch.begin(self._group, reservation_request(proposal))

    def pause_for_loss(self, why: LossPaused | None) -> None:
        """Stop quoting because of a loss; None to quote again. Idempotent."""
        if why != self.view.loss_pause:
            self.view.loss_pause = why
            self.wake()

    def apply_switch(self, *, paused: bool, episode: int) -> None:
        """Apply the state of the kill switch. Idempotent."""
        if (paused, episode) == (self.view.paused, self.view.episode):
            return
        if not paused:
            self._memory.reset_backoff()
        self.view.paused, self.view.episode = paused, episode
        self.wake()

    def stand_by(self, delay: timedelta) -> None:
        """Wait for other makers for `delay` before doing what is due."""
        if delay != self._standby:
            self._standby = delay
            self.wake()

    @property
    def is_first(self) -> bool:
        """True if this maker is the first for the symbol."""
        return not self._standby

    def stop(self) -> None:
        """Stop quoting, and withdraw this process's own quotes: the process stops."""
        self.view.stopping = True
        self.wake()

    def has_withdrawn_all(self, episode: int) -> bool:
        """True if it is known that no quote from before that pause can execute any more."""
        return self._memory.swept >= episode and not self._cleanup.pending

    @property
    def has_stopped(self) -> bool:
        """True if it is known that no quote of this process can execute any more."""
        return isinstance(self._step, Wait) and self._step.state == "stopped" and not self._cleanup.pending

    @property
    def is_quoted(self) -> bool:
        """True if the symbol should be quoted, judging by its instrument and its loss."""
        if self.view.loss_pause is not None:
            return False
        if self.view.state == "close_only":
            return self.view.position is not None and bool(self.view.position.net_quantity)
        return self.view.state == "trading"

    @property
    def paused(self) -> bool:
        """True if the kill switch keeps the symbol from being quoted, and no maker's quote is active."""
        return isinstance(self._step, Wait) and self._step.state == "paused"

    @property
    def quoting(self) -> bool:
        """True if the symbol has a live quote, whoever made it."""
        return plan.live_quote(self.view, self._memory, self._clock()) is not None

    def status(self) -> SymbolStatus:
        """Return what the maker does for the symbol now."""
        return symbol_status(self.view, self._memory, self._step, self._last_refusal, self._clock())

    async def run(self) -> None:
        """Keep the symbol quoted until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            self._cleanup.run_in(self._group)
            while True:
                self._woken.clear()
                if self.view.paused or self.view.loss_pause or self.view.stopping:
                    self._prefetch.drop()
                if not self._price_checked:
                    self._check_price()
                self._step = plan.decide(self.view, self._memory, self._clock(), self._standby)
                self._on_decision()
                match self._step:
                    case Propose() as step:
                        await self._propose(step)
                    case Withdraw(quote_id):
                        self._window.leave(self.symbol)
                        await self._withdraw(quote_id)
                    case Wait(until=until):
                        self._window.leave(self.symbol)
                        await self._sleep(until)

    # --- withdrawing --------------------------------------------------------------------------------------------------

    async def _withdraw(self, quote_id: str) -> None:
        """Request a withdrawal once, and record the outcome. The loop then decides whether another is needed.

        An exchange that lags behind the log may reply that there is nothing to withdraw, so this maker's own view must
        agree.
        """
        episode, pending = self.view.episode, self._cleanup.pending
        answer = await self._cleanup.withdraw(quote_id)
        if isinstance(answer, Quote):
            self._memory.withdrawn(quote_id)
            ended = none_active = True
        else:
            live = plan.live_quote(self.view, self._memory, self._clock())
            is_other = live is None or live.quote_id != quote_id
            ended = self.view.market_current and not answer.refusal.retryable and is_other
            none_active = ended and live is None and answer.refusal is not Refusal.STALE_QUOTE
        if ended:
            self._memory.sent.discard(quote_id)
        if none_active and not pending and self.view.paused:
            self._memory.swept = max(self._memory.swept, episode)
        if not ended:
            self._failed_withdrawals += 1
            await asyncio.sleep(retry_delay(self._failed_withdrawals))
        elif none_active:
            self._failed_withdrawals = 0
            # Until an attempt's reservation is known to be released, its quote may still become active.
            await self._cleanup.settle(SETTLE)
        else:
            await asyncio.sleep(plan.FIRST_DELAY)  # another quote is active: wait for the log to show it

    def _check_price(self) -> None:
        """Record in the view whether the newest position has a price."""
        self._price_checked = True
        position = self.view.position or Position(symbol=self.symbol, net_quantity=0, position_version=0)
        before, self.view.priced = self.view.priced, propose(self.listing, position, 1) is not None
        if not self.view.priced and self.is_quoted:
            quote_id = ids.quote_id(self.symbol, QuoteVersion(position.position_version, self.listing.revision, 1))
            self._last_refusal = LastRefusal(at=self._clock(), quote_id=quote_id, reason="no_price")
            if before:
                log.error("no side has a price", symbol=self.symbol, net_quantity=position.net_quantity)

    # --- one attempt --------------------------------------------------------------------------------------------------

    async def _propose(self, step: Propose) -> None:
        """Make an attempt if the window has a place. Otherwise wait for a place or any other change."""
        now = self._clock()
        quote = plan.live_quote(self.view, self._memory, now)
        if not self._window.enter(self.symbol, self.wake, quote.expires_at if quote is not None else now):
            self._queued = True
            await self._sleep(plan.quote_stale_at(self.view, self._memory, self._clock()))
            self._queued = False
            return
        # A refresh is not caused by a position update: it starts a new trace.
        cause = self._position_span if step.trigger == "position" else None
        self._attempting = True
        with tracing.span("attempt", cause or tracing.root(), quote_id=step.quote_id):
            is_active = await self._attempt(step)
        self._attempting = False
        if is_active:
            self._window.widen()
        elif self.view.revision > step.revision:
            self._window.narrow()
        self._window.leave(self.symbol)

    async def _attempt(self, step: Propose) -> bool:
        """Make an attempt. True if its quote became active."""
        logger = log.bind(symbol=self.symbol, **step.version._asdict(), quote_id=step.quote_id)
        proposal = propose(self.listing, step.position, step.attempt)
        if proposal is None:
            raise AssertionError("the position has no price")
        arrived = self._arrived_at  # for this position: a newer one may arrive meanwhile
        try:
            granted = await self._reserve(step, proposal, logger)
            if granted is None or not await self._publish(step, granted, logger):
                return False
            if step.trigger == "position":
                metrics.REQUOTE.observe(asyncio.get_running_loop().time() - arrived)
            return True
        except Refused as refused:
            # Whatever the reason, this attempt would be refused again, so the next one has another number.
            self._memory.sent.discard(step.quote_id)
            self._abandon(step)
            if refused.refusal is Refusal.STALE_QUOTE and (why := self._obsolete_reason(step)):
                logger.info("refused", reason=why)
                return False
            until = self._back_off(step, refused.refusal.slug)
            logger.warning("refused", reason=refused.refusal.slug, detail=refused.detail, again_at=until)
            return False

    def _obsolete_reason(self, step: Propose) -> str | None:
        """Return why an attempt should be given up; None if it should go on."""
        return plan.obsolete_reason(self.view, step, self._clock())

    async def _reserve(self, step: Propose, proposal: PutQuote, logger: Any) -> PutQuote | None:
        """Reserve, and return the proposal reduced to the grant; None if there is nothing to publish."""
        request = reservation_request(proposal)
        answer = await self._prefetch.take(request)
        if answer is None or (answer.reservation is not None and self._clock() >= answer.reservation.expires_at):
            answer = await self._call_until_answered(step, Rpc.RESERVE, request, ReservationAnswer, logger)
        if answer is None:
            self._abandon(step)
            return None
        metrics.RESERVATIONS.labels(answer.outcome).inc()
        if answer.reservation is None:
            until = self._back_off(step, str(answer.reason))
            logger.warning("reservation rejected", reason=answer.reason, trigger=step.trigger, again_at=until)
            return None
        granted = shrink(proposal, answer.reservation)
        if granted is None:
            # The attempt was made before, by an earlier run of this maker or by another maker.
            self._memory.abandoned(step.version)
            logger.info("reservation has ended already", state=answer.reservation.state, trigger=step.trigger)
            return None
        logger.info(
            f"reservation {answer.outcome}",
            reason=answer.reason,
            bid_quantity=granted.quote.bid_quantity,
            ask_quantity=granted.quote.ask_quantity,
            trigger=step.trigger,
            replaces=step.replaces,
        )
        return granted

    async def _publish(self, step: Propose, granted: PutQuote, logger: Any) -> bool:
        """Publish the granted quote. True if it became active."""
        if why := self._obsolete_reason(step):
            self._abandon(step)
            logger.info("not published", reason=why)
            return False
        self._memory.sent.add(step.quote_id)
        quote = await self._call_until_answered(step, Rpc.PUT_QUOTE, granted, Quote, logger) or self._quote_in_log(step)
        if quote is None:
            self._abandon(step)
            return False
        self._memory.succeeded(quote)
        metrics.ACTIVATED.inc()
        logger.info(
            "quote active",
            bid_price=quote.bid_price,
            ask_price=quote.ask_price,
            expires_at=quote.expires_at,
            trigger=step.trigger,
            replaces=step.replaces,
        )
        return True

    def _quote_in_log(self, step: Propose) -> Quote | None:
        """Return the attempt's quote if the market log shows that it became active; else None."""
        quote = self.view.market.quote()
        return quote if quote is not None and quote.quote_id == step.quote_id else None

    async def _call_until_answered(
        self, step: Propose, subject: str, request: msgspec.Struct, reply: type[T], logger: Any
    ) -> T | None:
        """Send the identical request again and again, and return the reply; None if the attempt is given up first.

        Raises:
            Refused: the refusal is final.
        """
        sent = 0
        while True:
            sent += 1
            try:
                answer = await self._rpc.call(subject, request, reply)
            except Refused as refused:
                if not refused.refusal.retryable:
                    raise
                reason = refused.refusal.slug
                if sent == 1:
                    logger.warning("not answered, retrying", subject=subject, reason=reason, detail=refused.detail)
            else:
                if sent > 1:
                    logger.info("answered", subject=subject, sent=sent)
                return answer
            self._note_refusal(step, reason)
            await self._wait_before_retry(step, retry_delay(sent))
            if why := self._obsolete_reason(step):
                logger.warning("not answered, giving up", subject=subject, sent=sent, reason=why)
                return None
            metrics.RETRIES.labels(reason).inc()

    async def _wait_before_retry(self, step: Propose, seconds: float) -> None:
        """Wait before a retry, or until the attempt should be given up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._obsolete_reason(step):
                    self._woken.clear()
                    await self._woken.wait()

    def _back_off(self, step: Propose, reason: str) -> datetime:
        metrics.RETRIES.labels(reason).inc()
        self._note_refusal(step, reason)
        return self._memory.failed(plan.basis(step.version), self._clock(), jitter())

    def _note_refusal(self, step: Propose, reason: str) -> None:
        self._last_refusal = LastRefusal(at=self._clock(), quote_id=step.quote_id, reason=reason)

    # --- prefetching a reservation ------------------------------------------------------------------------------------

    async def _prefetch_reservation(self, request: ReservationRequest) -> ReservationAnswer | None:
        try:
            with tracing.span("prefetch", self._fill_span or tracing.root(), quote_id=request.quote_id):
                return await self._rpc.call(Rpc.RESERVE, request, ReservationAnswer)
        except Refused as refused:
            log.info("reservation not prefetched", quote_id=request.quote_id, reason=refused.refusal.slug)
            return None

    def _abandon(self, step: Propose) -> None:
        """Never try this attempt again, and release its reservation unless its quote became active after all."""
        self._memory.abandoned(step.version)
        event = self.view.market.event
        if event is None or event.quote_id != step.quote_id:
            self._cleanup.release(step.quote_id)

    async def _sleep(self, until: datetime | None) -> None:
        seconds = None if until is None else max(0.001, (until - self._clock()).total_seconds())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
