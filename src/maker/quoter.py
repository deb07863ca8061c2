"""One symbol's loop: decide, propose, reserve, shrink to the grant, publish; and withdraw what should not stand.

Ordering rules:
- One thing at a time: an attempt, or a withdrawal. So no attempt is under way when something is withdrawn.
- A request that got no answer is sent again, identical, until it is answered or `plan.superseded` says why it has no
  more point. What such an attempt reserved is released, which also keeps its quote from becoming active later.
- Feeds and switches change `view` and call `wake`; only this room talks to other services.
- What is wanted is a state, not a step: it is decided anew after every change, and what stands is compared with it.
- An attempt needs a place in the window. What waits for one is decided anew when it has it.
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
from maker.calls import Calls, jitter, rest
from maker.cleanup import Cleanup
from maker.plan import Memory, Propose, Step, View, Wait, Withdraw
from maker.prefetch import Prefetch
from maker.proposal import propose, reservation_request, shrink
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
"""Seconds that releases get before the exchange is asked again."""

T = TypeVar("T")
log = structlog.get_logger()


class Quoter:
    """Keeps one symbol quoted.

    Attributes:
        view: what is known of the symbol from outside; whoever changes it calls `wake`.
        listing: the instrument that is quoted; `relist` changes it.
    """

    def __init__(
        self,
        view: View,
        listing: Listing,
        connection: Connection,
        clock: Clock,
        window: Window,
        ended: Callable[[], None],
        *,
        rpc_timeout: float,
    ) -> None:
        """`window` has places for attempts; `ended` is called whenever `has_ended` or `has_stopped` may be true."""
        self.symbol = symbol = view.market.symbol
        self.view = view
        self.listing = listing
        self._clock = clock
        self._window = window
        self._ended = ended
        self._standby = timedelta(0)
        self._memory = Memory()
        self._step: Step = Wait("waiting_for_feeds")
        self._last_refusal: LastRefusal | None = None
        self._arrived = 0.0  # when the newest position update did, in the loop's time
        self._moved_by: tracing.AnySpan = None  # what published it
        self._filled_by: tracing.AnySpan = None  # what appended the fills that were prefetched for
        self._woken = asyncio.Event()
        self._busy = False
        self._in_line = False  # for a place in the window
        self._looked = False  # for prices of what is known
        self._not_withdrawn = 0  # in a row
        self._group: asyncio.TaskGroup | None = None
        self._calls = Calls(connection, rpc_timeout)
        self._cleanup = Cleanup(symbol, self._calls, self.wake)
        self._prefetch = Prefetch(self._prefetch_reservation, self._cleanup.release_unneeded)
        self.relist(listing)

    def relist(self, listing: Listing) -> None:
        """The instrument, or its share of the limit, is another from now on."""
        was = self.view.revision, self.view.state
        self.listing = listing
        self.view.relist(listing)
        is_another = was != (listing.revision, listing.instrument.state)
        if is_another:
            self._looked = False
        # What waits for a place is decided anew when it has one: a price may move again, and again, before that.
        is_told_anyway = self._in_line and was[1] == listing.instrument.state
        if (is_another and not is_told_anyway) or (isinstance(self._step, Wait) and self._step.state == "no_reference"):
            self.wake()

    def wake(self) -> None:
        """The view changed: think again."""
        self._woken.set()

    def moved(self, update: PositionUpdate, span: tracing.AnySpan = None) -> None:
        """A position update arrived, by `span`; one that is not newer is skipped."""
        if self.view.learn(update.position):
            self._arrived = asyncio.get_running_loop().time()
            self._moved_by = span
            self._looked = False
            self.wake()

    def filled(self, fills: Sequence[RecordedFill], span: tracing.AnySpan = None) -> None:
        """Fills, appended by `span`, were folded into the view. The exposure for the quote that follows is asked for,
        if that is ours to make and nothing else is under way."""
        now = self._clock()
        self.view.filled_at = now
        position = plan.predicted_position(self.view, fills)
        if position is None or self._standby or self._busy or self._group is None or self._window.is_full:
            return
        if plan.stale(self.view, self.view.revision, now):
            return
        proposal = propose(self.listing, position, 1)
        if proposal is not None:
            self._filled_by = span
            self._prefetch.begin(self._group, reservation_request(proposal))

    def lose(self, why: LossPaused | None) -> None:
        """Quote nothing because of what was lost, or (None) do. Saying the same again changes nothing."""
        if why != self.view.lost:
            self.view.lost = why
            self.wake()

    def obey(self, *, paused: bool, episode: int) -> None:
        """Do as the kill switch says. Saying the same again changes nothing."""
        if (paused, episode) == (self.view.paused, self.view.episode):
            return
        if not paused:
            self._memory.reset_backoff()
        self.view.paused, self.view.episode = paused, episode
        self.wake()

    def stand_by(self, delay: timedelta) -> None:
        """Leave what is due to other makers first, for so long."""
        if delay != self._standby:
            self._standby = delay
            self.wake()

    @property
    def is_first(self) -> bool:
        """Whether what is due is left to nobody first."""
        return not self._standby

    def stop(self) -> None:
        """Quote no more, and withdraw what is ours: the process stops."""
        self.view.stopping = True
        self.wake()

    def has_ended(self, episode: int) -> bool:
        """Whether it is known that nothing which stood before that pause executes any more."""
        return self._memory.swept >= episode and not self._cleanup.pending

    @property
    def has_stopped(self) -> bool:
        """Whether it is known that no quote of ours executes any more."""
        return isinstance(self._step, Wait) and self._step.state == "stopped" and not self._cleanup.pending

    @property
    def is_quoted(self) -> bool:
        """Whether the symbol is to be quoted, as far as its instrument says."""
        if self.view.lost is not None:
            return False
        if self.view.state == "close_only":
            return self.view.position is not None and bool(self.view.position.net_quantity)
        return self.view.state == "trading"

    @property
    def paused(self) -> bool:
        """Whether nothing is quoted because of the kill switch, and nothing of a maker's stands."""
        return isinstance(self._step, Wait) and self._step.state == "paused"

    @property
    def quoting(self) -> bool:
        """Whether a quote of the symbol is live, whoever made it."""
        return plan.live_quote(self.view, self._memory, self._clock()) is not None

    def status(self) -> SymbolStatus:
        """What the maker does about the symbol now."""
        return symbol_status(self.view, self._memory, self._step, self._last_refusal, self._clock())

    async def run(self) -> None:
        """Keep the symbol quoted until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            self._cleanup.run_in(self._group)
            while True:
                self._woken.clear()
                if self.view.paused or self.view.lost or self.view.stopping:
                    self._prefetch.drop()
                if not self._looked:
                    self._look_for_prices()
                self._step = plan.decide(self.view, self._memory, self._clock(), self._standby)
                self._ended()
                match self._step:
                    case Propose() as step:
                        await self._propose(step)
                    case Withdraw(quote_id):
                        self._window.leave(self.symbol)
                        await self._withdraw(quote_id)
                    case Wait(until=until):
                        self._window.leave(self.symbol)
                        await self._sleep(until)

    # --- what should not stand ----------------------------------------------------------------------------------------

    async def _withdraw(self, quote_id: str) -> None:
        """Ask once that a quote be withdrawn, and note what is known then. Whether that will do is decided anew.

        An exchange that is behind the log may say that there is nothing to withdraw, so our own view must agree.
        """
        episode, pending = self.view.episode, self._cleanup.pending
        answer = await self._cleanup.withdraw(quote_id)
        if isinstance(answer, Quote):
            self._memory.withdrawn(quote_id)
            over = nothing = True
        else:
            live = plan.live_quote(self.view, self._memory, self._clock())
            over = self.view.heard and not answer.refusal.retryable and (live is None or live.quote_id != quote_id)
            nothing = over and live is None and answer.refusal is not Refusal.STALE_QUOTE
        if over:
            self._memory.asked.discard(quote_id)
        if nothing and not pending and self.view.paused:
            self._memory.swept = max(self._memory.swept, episode)
        if not over:
            self._not_withdrawn += 1
            await asyncio.sleep(rest(self._not_withdrawn))
        elif nothing:
            self._not_withdrawn = 0
            # Until what an attempt has reserved is known to be released, its quote may still become active.
            await self._cleanup.settle(SETTLE)
        else:
            await asyncio.sleep(plan.FIRST_DELAY)  # another quote is active: the log will tell which

    def _look_for_prices(self) -> None:
        """Note whether the newest position has a price."""
        self._looked = True
        position = self.view.position or Position(symbol=self.symbol, net_quantity=0, position_version=0)
        before, self.view.priced = self.view.priced, propose(self.listing, position, 1) is not None
        if not self.view.priced and self.is_quoted:
            quote_id = ids.quote_id(self.symbol, QuoteVersion(position.position_version, self.listing.revision, 1))
            self._last_refusal = LastRefusal(at=self._clock(), quote_id=quote_id, reason="no_price")
            if before:
                log.error("no side has a price", symbol=self.symbol, net_quantity=position.net_quantity)

    # --- one attempt --------------------------------------------------------------------------------------------------

    async def _propose(self, step: Propose) -> None:
        """Make an attempt, if there is a place for it; else wait for one, and for whatever else may come first."""
        now = self._clock()
        quote = plan.live_quote(self.view, self._memory, now)
        if not self._window.enter(self.symbol, self.wake, quote.expires_at if quote is not None else now):
            self._in_line = True
            await self._sleep(plan.quote_stale_at(self.view, self._memory, self._clock()))
            self._in_line = False
            return
        # A refresh follows from no position: it is a trace of its own.
        cause = self._moved_by if step.trigger == "position" else None
        self._busy = True
        with tracing.span("attempt", cause or tracing.root(), quote_id=step.quote_id):
            is_active = await self._attempt(step)
        self._busy = False
        if is_active:
            self._window.widen()
        elif self.view.revision > step.revision:
            self._window.narrow()
        self._window.leave(self.symbol)

    async def _attempt(self, step: Propose) -> bool:
        """Make an attempt. Whether its quote became active."""
        logger = log.bind(symbol=self.symbol, **step.version._asdict(), quote_id=step.quote_id)
        proposal = propose(self.listing, step.position, step.attempt)
        if proposal is None:
            raise AssertionError("a position without a price is not proposed for")
        arrived = self._arrived  # of this position: a newer one may arrive meanwhile
        try:
            granted = await self._reserve(step, proposal, logger)
            if granted is None or not await self._publish(step, granted, logger):
                return False
            if step.trigger == "position":
                metrics.REQUOTE.observe(asyncio.get_running_loop().time() - arrived)
            return True
        except Refused as refused:
            # Whatever the reason, this attempt would be refused again: the next one is another attempt.
            self._memory.asked.discard(step.quote_id)
            self._abandon(step)
            if refused.refusal is Refusal.STALE_QUOTE and (why := self._superseded(step)):
                logger.info("refused", reason=why)
                return False
            until = self._back_off(step, refused.refusal.slug)
            logger.warning("refused", reason=refused.refusal.slug, detail=refused.detail, again_at=until)
            return False

    def _superseded(self, step: Propose) -> str | None:
        """Why there is no more point in an attempt, None while there is."""
        return plan.superseded(self.view, step, self._clock())

    async def _reserve(self, step: Propose, proposal: PutQuote, logger: Any) -> PutQuote | None:
        """Reserve, and shrink the proposal to what was granted. None: there is nothing to publish."""
        request = reservation_request(proposal)
        answer = await self._prefetch.take(request)
        if answer is None or (answer.reservation is not None and self._clock() >= answer.reservation.expires_at):
            answer = await self._ask(step, Rpc.RESERVE, request, ReservationAnswer, logger)
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
            # The attempt was made before, by an earlier run of this maker or by another one.
            self._memory.abandoned(step.version)
            logger.info("reservation used up", state=answer.reservation.state, trigger=step.trigger)
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
        """Publish what was granted. Whether it became active."""
        if why := self._superseded(step):
            self._abandon(step)
            logger.info("not published", reason=why)
            return False
        self._memory.asked.add(step.quote_id)
        quote = await self._ask(step, Rpc.PUT_QUOTE, granted, Quote, logger) or self._recorded(step)
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

    def _recorded(self, step: Propose) -> Quote | None:
        """The attempt's quote, if the market log says that it became active."""
        quote = self.view.market.quote()
        return quote if quote is not None and quote.quote_id == step.quote_id else None

    async def _ask(self, step: Propose, subject: str, request: msgspec.Struct, reply: type[T], logger: Any) -> T | None:
        """Send the identical request until it is answered. None: there is no more point in it.

        Raises:
            Refused: for a reason that asking again does not change.
        """
        sent = 0
        while True:
            sent += 1
            try:
                answer = await self._calls.once(subject, request, reply)
            except Refused as refused:
                if not refused.refusal.retryable:
                    raise
                reason = refused.refusal.slug
                if sent == 1:
                    logger.warning("not answered, sending again", subject=subject, reason=reason, detail=refused.detail)
            else:
                if sent > 1:
                    logger.info("answered", subject=subject, sent=sent)
                return answer
            self._remember(step, reason)
            await self._rest(step, rest(sent))
            if why := self._superseded(step):
                logger.warning("not answered, sending no more", subject=subject, sent=sent, reason=why)
                return None
            metrics.RETRIES.labels(reason).inc()

    async def _rest(self, step: Propose, seconds: float) -> None:
        """Wait before sending again; cut short when there is no more point in it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._superseded(step):
                    self._woken.clear()
                    await self._woken.wait()

    def _back_off(self, step: Propose, reason: str) -> datetime:
        metrics.RETRIES.labels(reason).inc()
        self._remember(step, reason)
        return self._memory.failed(plan.basis(step.version), self._clock(), jitter())

    def _remember(self, step: Propose, reason: str) -> None:
        self._last_refusal = LastRefusal(at=self._clock(), quote_id=step.quote_id, reason=reason)

    # --- prefetching a reservation ------------------------------------------------------------------------------------

    async def _prefetch_reservation(self, request: ReservationRequest) -> ReservationAnswer | None:
        try:
            with tracing.span("prefetch", self._filled_by or tracing.root(), quote_id=request.quote_id):
                return await self._calls.once(Rpc.RESERVE, request, ReservationAnswer)
        except Refused as refused:
            log.info("reservation not prefetched", quote_id=request.quote_id, reason=refused.refusal.slug)
            return None

    def _abandon(self, step: Propose) -> None:
        """Never try this attempt again, and release what it reserved, unless a quote came of it after all."""
        self._memory.abandoned(step.version)
        event = self.view.market.event
        if event is None or event.quote_id != step.quote_id:
            self._cleanup.release(step.quote_id)

    async def _sleep(self, until: datetime | None) -> None:
        seconds = None if until is None else max(0.001, (until - self._clock()).total_seconds())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
