"""Quotes that are being made active: one pending quote per request, however often and by whomever it is sent.

A pending quote continues while a caller waits for it, and ends with its commit: perhaps long after its callers were
answered that the outcome is unknown. Copies of the request that arrive meanwhile join it; later copies begin another
one. Of an asker's pending quotes only the newest continues: it ends earlier ones whose commit has not begun.

Each pending quote has its own activation token. By the tokens, exposure knows whether more than one pending quote has
activated a reservation. If only one has, and its quote does not become active, the reservation is deactivated. A late
request to deactivate never undoes the activation of another pending quote, because its token differs.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

import structlog

from jet import rpc
from jet.connection import Connection
from process import tracing
from wire import ids, subjects
from wire.errors import Refusal, Refused
from wire.quotes import Quote, QuoteRequest
from wire.reservations import Activate, Deactivate, Reservation

DEADLINE = 5.0
"""Seconds a caller waits for its answer."""

ACTIVATE_TIMEOUT = 2.0
"""Seconds until an unanswered activation is sent again, with the same token."""

DEACTIVATE_TRIES = 5
"""Attempts to deactivate a reservation. If all fail, it expires by itself."""

RETRY_PAUSE = 0.2
"""Seconds between two calls to exposure."""

log = structlog.get_logger()


class Stage(Enum):
    """The stage of a pending quote, in the words of the refusal that reports it."""

    ACTIVATING = "waiting for exposure to activate the reservation"
    COMMITTING = "the quote waits for its commit, or is being committed"
    DONE = "the quote is active, or will not become active"


@dataclass(slots=True, eq=False)
class PendingQuote:
    """A quote request that is being made active.

    Attributes:
        asker: who sent it: a token or a broker connection.
        activation: its activation token.
        reservation: the reservation, once it is activated.
        waiters: the number of callers that wait for the answer. Without any, the quote is not committed.
        begun: True once its commit has begun. If its deadline passes before, it is never committed.
        committed: set when its commit has ended, whatever the result.
    """

    request: QuoteRequest
    asker: str | None
    span: tracing.AnySpan
    activation: str = field(default_factory=lambda: secrets.token_hex(8))
    stage: Stage = Stage.ACTIVATING
    reservation: Reservation | None = None
    waiters: int = 0
    answer: "asyncio.Future[Quote]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    begun: bool = False
    committed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def asker_digest(self) -> str | None:
        """The digest of the asker, which is stored in the log."""
        return ids.asker(self.asker) if self.asker is not None else None

    def check_wanted(self) -> None:
        """Stop if the quote was superseded, or no caller waits for it any more.

        Raises:
            Refused: SUPERSEDED; UNAVAILABLE.
        """
        if self.answer.done():
            self.answer.result()
        if not self.waiters:
            raise Refused(Refusal.UNAVAILABLE, "the client has given up")

    def refuse(self, refused: Refused) -> None:
        """Refuse, unless it has been answered."""
        if not self.answer.done():
            self.answer.set_exception(refused)
            self.answer.exception()  # mark it as retrieved: there may be no waiter


class PendingQuotes:
    """The pending quotes of one symbol. `submit` queues one with an activated reservation for its commit."""

    def __init__(
        self, symbol: str, connection: Connection, submit: "Callable[[PendingQuote], asyncio.Future[Quote]]"
    ) -> None:
        self._symbol = symbol
        self._connection = connection
        self._submit = submit
        self._pending: dict[QuoteRequest, PendingQuote] = {}
        self._newest: dict[str | None, PendingQuote] = {}
        self._group: asyncio.TaskGroup | None = None

    def run_in(self, group: asyncio.TaskGroup) -> None:
        """Run pending quotes as tasks of this group."""
        self._group = group

    async def put(self, request: QuoteRequest, asker: str | None) -> Quote:
        """Make a quote active, or join the pending quote of the same request.

        Raises:
            Refused: the quote is stale, its reservation does not cover it, the asker has requested a newer one, or the
                outcome is not known in time.
        """
        if self._group is None:
            await asyncio.sleep(0)  # the symbol has just been defined: its lane starts in this pass of the event loop
        pending = self._pending.get(request)
        if pending is None:
            pending = PendingQuote(request, asker, tracing.current())
            self._supersede(pending)
            self._pending[request] = pending
            self._spawn(pending)
        pending.waiters += 1
        try:
            await asyncio.wait([pending.answer], timeout=DEADLINE)
        finally:
            pending.waiters -= 1
        if not pending.answer.done():
            raise Refused(Refusal.OUTCOME_UNKNOWN, f"not known within {DEADLINE:g} s: {pending.stage.value}")
        return pending.answer.result()

    def deactivate(self, pending: PendingQuote) -> None:
        """Deactivate the reservation at exposure, in the background: its quote will not become active."""
        if self._group is not None:
            self._group.create_task(self._deactivate(pending))

    def _supersede(self, pending: PendingQuote) -> None:
        """End the asker's previous pending quote, unless its commit has begun.

        Raises:
            Refused: SUPERSEDED: the previous one is for a newer quote.
        """
        before = self._newest.get(pending.asker)
        if pending.asker is not None and before is not None:
            older, newer = sorted((before, pending), key=lambda each: each.request.version)
            refused = Refused(Refusal.SUPERSEDED, f"{newer.request.quote_id} was requested; nothing was done")
            if older is pending:
                raise refused
            if not before.begun:
                before.refuse(refused)
        self._newest[pending.asker] = pending

    def _finish(self, pending: PendingQuote) -> None:
        pending.stage = Stage.DONE
        del self._pending[pending.request]
        if self._newest.get(pending.asker) is pending:
            del self._newest[pending.asker]

    def _spawn(self, pending: PendingQuote) -> None:
        running = self._run(pending)
        try:
            if self._group is None:
                raise RuntimeError
            self._group.create_task(running)
        except RuntimeError:
            running.close()
            self._finish(pending)
            pending.refuse(Refused(Refusal.UNAVAILABLE, "this exchange is stopping"))

    async def _run(self, pending: PendingQuote) -> None:
        try:
            try:
                pending.reservation = await self._activate(pending)
                pending.check_wanted()
                answer = self._submit(pending)
            except Refused as refused:
                if pending.reservation is not None or refused.refusal.retryable:  # it was activated, or may have been
                    self.deactivate(pending)
                pending.refuse(refused)
                return
            pending.stage = Stage.COMMITTING
            try:
                quote = await answer
                if not pending.answer.done():
                    pending.answer.set_result(quote)
            except Refused as refused:
                pending.refuse(refused)
                if not pending.begun:
                    self.deactivate(pending)
                    return
            await pending.committed.wait()
        finally:
            self._finish(pending)
            pending.refuse(Refused(Refusal.OUTCOME_UNKNOWN, "this exchange is stopping"))

    async def _activate(self, pending: PendingQuote) -> Reservation:
        """Activate the reservation. Send the request again until the outcome is known or no caller waits for it."""
        request = pending.request
        activate = Activate(
            reservation_id=request.reservation_id,
            quote_id=request.quote_id,
            symbol=self._symbol,
            position_version=request.position_version,
            revision=request.version.revision,
            attempt=request.attempt,
            bid_quantity=request.bid_quantity,
            ask_quantity=request.ask_quantity,
            activation=pending.activation,
        )
        while True:
            try:
                return await rpc.call(
                    self._connection,
                    subjects.Rpc.ACTIVATE,
                    activate,
                    Reservation,
                    timeout=ACTIVATE_TIMEOUT,
                    headers=tracing.inject(),
                )
            except Refused as refused:
                if refused.refusal is not Refusal.OUTCOME_UNKNOWN or not pending.waiters:
                    raise
                log.warning("activation not answered, resending", quote_id=request.quote_id, reason=refused.detail)
            await asyncio.sleep(RETRY_PAUSE)

    async def _deactivate(self, pending: PendingQuote) -> None:
        deactivate = Deactivate(reservation_id=pending.request.reservation_id, activation=pending.activation)
        for _ in range(DEACTIVATE_TRIES):
            try:
                await rpc.call(self._connection, subjects.Rpc.DEACTIVATE, deactivate, Reservation)
            except Refused as refused:
                log.info("not deactivated", reservation_id=deactivate.reservation_id, refusal=str(refused))
                if not refused.refusal.retryable:
                    return
                await asyncio.sleep(RETRY_PAUSE)
            else:
                return
