"""One symbol's loop: decide, propose, reserve, shrink to the grant, publish; and end the quote when told to.

Ordering rules:
- One attempt at a time, under `_busy`. Ending the quote takes the same lock, so no attempt is under way then.
- A request that got no answer is sent again, identical, until it is answered or `plan.superseded` says why it has no
  more point. What such an attempt reserved is released, which also keeps its quote from becoming active later.
- Feeds and switches change `view` and call `wake`; only this room talks to other services.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Coroutine, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec
import structlog

from jet import rpc
from jet.connection import Connection
from maker import metrics, plan
from maker.ahead import Ahead
from maker.plan import Memory, Propose, Step, View, Wait, Withdraw
from maker.proposal import propose, reservation_request, shrink
from maker.status import LastRefusal, SymbolStatus, symbol_status
from runtime import tracing
from runtime.clock import Clock
from wire import ids
from wire.errors import Refused
from wire.instruments import Instrument
from wire.market import SymbolMarket
from wire.messages import (
    PositionUpdate,
    PutQuote,
    Quote,
    RecordedFill,
    ReleaseReservation,
    Reservation,
    ReservationAnswer,
    ReservationRequest,
    WithdrawQuote,
)
from wire.subjects import Rpc

LONGEST_REST = 1.0
"""Seconds, at most, between two sendings of a request that is not answered."""

T = TypeVar("T")
log = structlog.get_logger()


class Quoter:
    """Keeps one symbol quoted.

    Attributes:
        view: what is known of the symbol from outside; whoever changes it calls `wake`.
    """

    def __init__(
        self,
        symbol: str,
        instrument: Instrument,
        share: int,
        connection: Connection,
        clock: Clock,
        *,
        standby: timedelta,
        rpc_timeout: float,
    ) -> None:
        self.symbol = symbol
        self.view = View(SymbolMarket(symbol))
        self._instrument = instrument
        self._share = share
        self._connection = connection
        self._clock = clock
        self._standby = standby
        self._rpc_timeout = rpc_timeout
        self._memory = Memory()
        self._step: Step = Wait("waiting_for_feeds")
        self._last_refusal: LastRefusal | None = None
        self._arrived = 0.0  # when the newest position update did, in the loop's time
        self._moved_by: tracing.AnySpan = None  # what published it
        self._filled_by: tracing.AnySpan = None  # what appended the fills that were reserved for ahead
        self._woken = asyncio.Event()
        self._busy = asyncio.Lock()
        self._releases: set[asyncio.Task[None]] = set()
        self._group: asyncio.TaskGroup | None = None
        self._ahead = Ahead(self._ask_ahead, self._give_back_ahead)

    def wake(self) -> None:
        """The view changed: think again."""
        self._woken.set()

    def moved(self, update: PositionUpdate, span: tracing.AnySpan = None) -> None:
        """A position update arrived, by `span`; one that is not newer is skipped."""
        known = self.view.position
        if known is None or update.position_version > known.position_version:
            self.view.position = update.position
            self._arrived = asyncio.get_running_loop().time()
            self._moved_by = span
            self.wake()

    def filled(self, fills: Sequence[RecordedFill], span: tracing.AnySpan = None) -> None:
        """Fills, appended by `span`, were folded into the view. The exposure for the quote that follows is asked for,
        if that is ours to make and nothing else is under way."""
        now = self._clock()
        self.view.filled_at = now
        position = plan.foreseen(self.view, fills)
        if position is None or self._standby or self._busy.locked() or self._group is None:
            return
        proposal = propose(self._instrument, self._share, position, 1)
        if proposal is not None:
            self._filled_by = span
            self._ahead.begin(self._group, reservation_request(proposal))

    def pause(self) -> None:
        """Quote no more. An attempt under way is given up."""
        self.view.paused = True
        self.wake()

    def resume(self) -> None:
        """Quote again, at once."""
        self.view.paused = False
        self._memory.forgive()
        self.wake()

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
            while True:
                self._woken.clear()
                async with self._busy:
                    self._step = plan.decide(self.view, self._memory, self._clock(), self._standby)
                    match self._step:
                        case Propose() as step:
                            # A refresh follows from no position: it is a trace of its own.
                            cause = self._moved_by if step.trigger == "position" else None
                            with tracing.span("attempt", cause or tracing.root(), quote_id=step.quote_id):
                                await self._attempt(step)
                        case Withdraw(quote_id):
                            if not await self._withdraw(quote_id):
                                await asyncio.sleep(plan.FIRST_DELAY)
                if isinstance(self._step, Wait):
                    await self._sleep(self._step.until)

    async def end_quote(self, *, own_only: bool) -> None:
        """End the symbol's quote, whoever made it, or `own_only`. Returns when it is known to execute no more.

        Asks until it is answered: bound it. Pause first, or the loop quotes again.
        """
        async with self._busy:
            self._ahead.drop()
            while True:
                asked = sorted(self._memory.asked) if own_only else [None]
                ended = [await self._withdraw(quote_id) for quote_id in asked]
                if self._releases:
                    # Until what it reserved is known to be given back, a quote given up may still become active.
                    await asyncio.wait(self._releases)
                elif all(ended):
                    return
                else:
                    await asyncio.sleep(plan.FIRST_DELAY)

    # --- one attempt --------------------------------------------------------------------------------------------------

    async def _attempt(self, step: Propose) -> None:
        version, attempt = step.version
        say = log.bind(symbol=self.symbol, position_version=version, attempt=attempt, quote_id=step.quote_id)
        proposal = propose(self._instrument, self._share, step.position, attempt)
        if proposal is None:
            until = self._back_off(step, "no_price")
            say.error("no side has a price", net_quantity=step.position.net_quantity, again_at=until)
            return
        arrived = self._arrived  # of this position: a newer one may arrive meanwhile
        try:
            granted = await self._reserve(step, proposal, say)
            if granted is not None and await self._publish(step, granted, say) and step.trigger == "position":
                metrics.REQUOTE.observe(asyncio.get_running_loop().time() - arrived)
        except Refused as refused:
            # Whatever the reason, this attempt would be refused again: the next one is another attempt.
            self._memory.asked.discard(step.quote_id)
            self._abandon(step)
            until = self._back_off(step, refused.refusal.slug)
            say.warning("refused", reason=refused.refusal.slug, detail=refused.detail, again_at=until)

    async def _reserve(self, step: Propose, proposal: PutQuote, say: Any) -> PutQuote | None:
        """Reserve, and shrink the proposal to what was granted. None: there is nothing to publish."""
        request = reservation_request(proposal)
        answer = await self._ahead.take(request)
        if answer is None:
            answer = await self._ask(step, Rpc.RESERVE, request, ReservationAnswer, say)
        if answer is None:
            self._abandon(step)
            return None
        metrics.RESERVATIONS.labels(answer.outcome).inc()
        if answer.reservation is None:
            until = self._back_off(step, str(answer.reason))
            say.warning("reservation rejected", reason=answer.reason, trigger=step.trigger, again_at=until)
            return None
        granted = shrink(proposal, answer.reservation)
        if granted is None:
            # The attempt was made before, by an earlier run of this maker or by another one.
            self._memory.died(step.version)
            say.info("reservation used up", state=answer.reservation.state, trigger=step.trigger)
            return None
        say.info(
            f"reservation {answer.outcome}",
            reason=answer.reason,
            bid_quantity=granted.quote.bid_quantity,
            ask_quantity=granted.quote.ask_quantity,
            trigger=step.trigger,
            replaces=step.replaces,
        )
        return granted

    async def _publish(self, step: Propose, granted: PutQuote, say: Any) -> bool:
        """Publish what was granted. Whether it became active."""
        if why := plan.superseded(self.view, step):
            self._abandon(step)
            say.info("not published", reason=why)
            return False
        self._memory.asked.add(step.quote_id)
        quote = await self._ask(step, Rpc.PUT_QUOTE, granted, Quote, say) or self._recorded(step)
        if quote is None:
            self._abandon(step)
            return False
        self._memory.succeeded(quote)
        metrics.ACTIVATED.inc()
        say.info(
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

    async def _ask(self, step: Propose, subject: str, request: msgspec.Struct, reply: type[T], say: Any) -> T | None:
        """Send the identical request until it is answered. None: there is no more point in it.

        Raises:
            Refused: for a reason that asking again does not change.
        """
        sent = 0
        while True:
            sent += 1
            try:
                answer = await self._call(subject, request, reply)
            except Refused as refused:
                if not refused.refusal.retryable:
                    raise
                reason = refused.refusal.slug
                if sent == 1:
                    say.warning("not answered, sending again", subject=subject, reason=reason, detail=refused.detail)
            else:
                if sent > 1:
                    say.info("answered", subject=subject, sent=sent)
                return answer
            self._remember(step, reason)
            await self._rest(step, min(LONGEST_REST, plan.delay(sent, _jitter())))
            if why := plan.superseded(self.view, step):
                say.warning("not answered, sending no more", subject=subject, sent=sent, reason=why)
                return None
            metrics.RETRIES.labels(reason).inc()

    async def _rest(self, step: Propose, seconds: float) -> None:
        """Wait before sending again; cut short when there is no more point in it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not plan.superseded(self.view, step):
                    self._woken.clear()
                    await self._woken.wait()

    def _back_off(self, step: Propose, reason: str) -> datetime:
        metrics.RETRIES.labels(reason).inc()
        self._remember(step, reason)
        return self._memory.failed(step.position.position_version, self._clock(), _jitter())

    def _remember(self, step: Propose, reason: str) -> None:
        self._last_refusal = LastRefusal(at=self._clock(), quote_id=step.quote_id, reason=reason)

    # --- ahead of the position ----------------------------------------------------------------------------------------

    async def _ask_ahead(self, request: ReservationRequest) -> ReservationAnswer | None:
        try:
            with tracing.span("reserve ahead", self._filled_by or tracing.root(), quote_id=request.quote_id):
                return await self._call(Rpc.RESERVE, request, ReservationAnswer)
        except Refused as refused:
            log.info("not reserved ahead", quote_id=request.quote_id, reason=refused.refusal.slug)
            return None

    def _give_back_ahead(self, answer: Awaitable[ReservationAnswer | None], request: ReservationRequest) -> None:
        async def give_back() -> None:
            found = await answer
            if found is None or found.reservation is not None:
                await self._release(ids.reservation_id(request.quote_id))

        self._see_to(give_back())

    # --- giving back --------------------------------------------------------------------------------------------------

    def _abandon(self, step: Propose) -> None:
        """Never try this attempt again, and give back what it reserved, unless a quote came of it after all."""
        self._memory.died(step.version)
        event = self.view.market.event
        if event is None or event.quote_id != step.quote_id:
            self._see_to(self._release(ids.reservation_id(step.quote_id)))

    def _see_to(self, release: Coroutine[Any, Any, None]) -> None:
        """Have something given back, however long it takes."""
        if self._group is None:
            release.close()
            return
        task = self._group.create_task(release)
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)

    async def _release(self, reservation_id: str) -> None:
        await self._insist(Rpc.RELEASE, ReleaseReservation(reservation_id=reservation_id), Reservation)

    async def _withdraw(self, quote_id: str | None) -> bool:
        """Withdraw that quote, or whichever is the latest. Whether it is known to execute no more.

        An exchange that is behind the log may say that there is nothing to withdraw, so our own view must agree.
        """
        request = WithdrawQuote(symbol=self.symbol, quote_id=quote_id)
        answer = await self._insist(Rpc.WITHDRAW_QUOTE, request, Quote)
        if isinstance(answer, Refused):
            live = plan.live_quote(self.view, self._memory, self._clock())
            log.info("nothing to withdraw", symbol=self.symbol, quote_id=quote_id, reason=answer.refusal.slug)
            return self.view.current and (live is None or quote_id not in (None, live.quote_id))
        self._memory.asked.discard(answer.quote_id)
        log.info(
            "quote withdrawn",
            symbol=self.symbol,
            position_version=answer.position_version,
            attempt=answer.attempt,
            quote_id=answer.quote_id,
        )
        return True

    async def _insist(self, subject: str, request: msgspec.Struct, reply: type[T]) -> T | Refused:
        """Send the identical request until it is answered; a refusal is an answer too."""
        sent = 0
        while True:
            try:
                return await self._call(subject, request, reply)
            except Refused as refused:
                if not refused.refusal.retryable:
                    return refused
                sent += 1
            await asyncio.sleep(min(LONGEST_REST, plan.delay(sent, _jitter())))

    async def _call(self, subject: str, request: msgspec.Struct, reply: type[T]) -> T:
        headers = tracing.inject()
        return await rpc.call(self._connection, subject, request, reply, timeout=self._rpc_timeout, headers=headers)

    async def _sleep(self, until: datetime | None) -> None:
        seconds = None if until is None else max(0.001, (until - self._clock()).total_seconds())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()


def _jitter() -> float:
    return random.random()  # noqa: S311 # spreads retries; no secret depends on it
