"""Quotes that are being made active: one pending quote for each request, however often and by whomever it is sent.

A pending quote has an activation token, which says at exposure that this exchange alone is at it, so that what comes to
nothing can be deactivated. It goes on while somebody waits for it, and is over once its commit is: perhaps long after
its callers were told that the outcome is not known. Copies that arrive meanwhile join it, and later ones begin another.
Of one asker's pending quotes only the newest goes on: it ends earlier ones whose commit has not begun.

A token is used by one pending quote only: a late request to deactivate must not end what another one has activated.
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
"""Seconds until exposure is asked again, by another call with the same token."""

DEACTIVATE_TRIES = 5
"""Times that exposure is asked to undo an activation; after that the reservation's TTL does."""

PAUSE = 0.2
"""Seconds between two calls."""

log = structlog.get_logger()


class Stage(Enum):
    """How far a quote has come."""

    ACTIVATING = "exposure is asked to activate the reservation"
    COMMITTING = "it waits for its commit, or is being committed"
    DONE = "its quote is active, or is not and will not be"


@dataclass(slots=True, eq=False)
class PendingQuote:
    """One of them.

    Attributes:
        activation: its token.
        reservation: as it was activated.
        waiters: how many wait for the answer; a quote that nobody waits for is not committed.
        begun: its commit has begun. One whose time is up before that has none.
        committed: set once its commit is over, however it ended.
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
    def kept_asker(self) -> str | None:
        """What is kept of who asked."""
        return ids.asker(self.asker) if self.asker is not None else None

    def check_wanted(self) -> None:
        """Refuse to go on with what was superseded, or what nobody waits for any more.

        Raises:
            Refused: SUPERSEDED; UNAVAILABLE.
        """
        if self.answer.done():
            self.answer.result()
        if not self.waiters:
            raise Refused(Refusal.UNAVAILABLE, "whoever asked has given up")

    def refuse(self, refused: Refused) -> None:
        """Answer with a refusal, unless it was answered."""
        if not self.answer.done():
            self.answer.set_exception(refused)
            self.answer.exception()  # nobody may wait for it


class PendingQuotes:
    """Those of one symbol. `submit` queues one whose reservation is active to be committed, and returns its answer."""

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
        """Have them made in this group from now on."""
        self._group = group

    async def put(self, request: QuoteRequest, asker: str | None) -> Quote:
        """Make a quote active, or join who does.

        Raises:
            Refused: it is stale, its reservation does not carry it, the asker wants a newer one, or the outcome is not
                known in time.
        """
        if self._group is None:
            await asyncio.sleep(0)  # a symbol that was defined just now: its lane begins in this turn of the loop
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
        """Report to exposure in the background that what was activated will not be used."""
        if self._group is not None:
            self._group.create_task(self._deactivate(pending))

    def _supersede(self, pending: PendingQuote) -> None:
        """Have its asker's pending quote before go on no further, unless its commit has begun.

        Raises:
            Refused: SUPERSEDED: that one is for a newer quote.
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
            pending.refuse(Refused(Refusal.UNAVAILABLE, "this exchange stops"))

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
            pending.refuse(Refused(Refusal.OUTCOME_UNKNOWN, "this exchange stops"))

    async def _activate(self, pending: PendingQuote) -> Reservation:
        """Have the reservation activated, by one token until the outcome is known or nobody waits for it."""
        request = pending.request
        ask = Activate(
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
                    ask,
                    Reservation,
                    timeout=ACTIVATE_TIMEOUT,
                    headers=tracing.inject(),
                )
            except Refused as refused:
                if refused.refusal is not Refusal.OUTCOME_UNKNOWN or not pending.waiters:
                    raise
                log.warning("activation not answered, asking again", quote_id=request.quote_id, reason=refused.detail)
            await asyncio.sleep(PAUSE)

    async def _deactivate(self, pending: PendingQuote) -> None:
        ask = Deactivate(reservation_id=pending.request.reservation_id, activation=pending.activation)
        for _ in range(DEACTIVATE_TRIES):
            try:
                await rpc.call(self._connection, subjects.Rpc.DEACTIVATE, ask, Reservation)
            except Refused as refused:
                log.info("not deactivated", reservation_id=ask.reservation_id, refusal=str(refused))
                if not refused.refusal.retryable:
                    return
                await asyncio.sleep(PAUSE)
            else:
                return
