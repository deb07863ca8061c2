"""Quotes that are being made active: one flight for each request, however often and by whomever it is sent.

A flight makes one activation token, which says at exposure that this exchange alone is at it, so that what comes to
nothing can be deactivated. It goes on while somebody waits for it, and is over once its commit is: perhaps long after
its callers were told that the outcome is not known. Copies that arrive meanwhile join it, and later ones begin another.
Of one asker's flights only the newest goes on: it ends earlier ones whose commit has not begun.

A token is used by one flight only: one that is deactivated late must not end what another flight activated.
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
from wire.messages import Activate, Deactivate, Quote, QuoteRequest, Reservation

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
    """How far a put has come."""

    ACTIVATING = "exposure is asked to activate the reservation"
    COMMITTING = "it waits for its commit, or is being committed"
    OVER = "its quote is active, or is not and will not be"


@dataclass(slots=True, eq=False)
class Put:
    """One flight.

    Attributes:
        activation: its token.
        reservation: as it was activated.
        waiting: how many wait for the answer; a put that nobody waits for is not committed.
        begun: its commit has begun. One whose time is up before that has none.
        committed: set once its commit is over, however it ended.
    """

    request: QuoteRequest
    asker: str | None
    span: tracing.AnySpan
    activation: str = field(default_factory=lambda: secrets.token_hex(8))
    stage: Stage = Stage.ACTIVATING
    reservation: Reservation | None = None
    waiting: int = 0
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
        if not self.waiting:
            raise Refused(Refusal.UNAVAILABLE, "whoever asked has given up")

    def refuse(self, refused: Refused) -> None:
        """Answer with a refusal, unless it was answered."""
        if not self.answer.done():
            self.answer.set_exception(refused)
            self.answer.exception()  # nobody may wait for it


class Puts:
    """One symbol's flights. `submit` queues one whose reservation is active to be committed, and returns its answer."""

    def __init__(self, symbol: str, connection: Connection, submit: "Callable[[Put], asyncio.Future[Quote]]") -> None:
        self._symbol = symbol
        self._connection = connection
        self._submit = submit
        self._flights: dict[QuoteRequest, Put] = {}
        self._newest: dict[str | None, Put] = {}
        self._group: asyncio.TaskGroup | None = None

    def run_in(self, group: asyncio.TaskGroup) -> None:
        """Have flights made in this group from now on."""
        self._group = group

    async def put(self, request: QuoteRequest, asker: str | None) -> Quote:
        """Make a quote active, or join who does.

        Raises:
            Refused: it is stale, its reservation does not carry it, the asker wants a newer one, or the outcome is not
                known in time.
        """
        if self._group is None:
            await asyncio.sleep(0)  # a symbol that was defined just now: its lane begins in this turn of the loop
        put = self._flights.get(request)
        if put is None:
            put = Put(request, asker, tracing.current())
            self._supersede(put)
            self._flights[request] = put
            self._spawn(put)
        put.waiting += 1
        try:
            await asyncio.wait([put.answer], timeout=DEADLINE)
        finally:
            put.waiting -= 1
        if not put.answer.done():
            raise Refused(Refusal.OUTCOME_UNKNOWN, f"not known within {DEADLINE:g} s: {put.stage.value}")
        return put.answer.result()

    def deactivate(self, put: Put) -> None:
        """Report to exposure in the background that what was activated will not be used."""
        if self._group is not None:
            self._group.create_task(self._deactivate(put))

    def _supersede(self, put: Put) -> None:
        """Have its asker's flight before go on no further, unless its commit has begun.

        Raises:
            Refused: SUPERSEDED: that one is for a newer quote.
        """
        before = self._newest.get(put.asker)
        if put.asker is not None and before is not None:
            older, newer = sorted((before, put), key=lambda each: each.request.version)
            refused = Refused(Refusal.SUPERSEDED, f"{newer.request.quote_id} was requested; nothing was done")
            if older is put:
                raise refused
            if not before.begun:
                before.refuse(refused)
        self._newest[put.asker] = put

    def _over(self, put: Put) -> None:
        put.stage = Stage.OVER
        del self._flights[put.request]
        if self._newest.get(put.asker) is put:
            del self._newest[put.asker]

    def _spawn(self, put: Put) -> None:
        flying = self._fly(put)
        try:
            if self._group is None:
                raise RuntimeError
            self._group.create_task(flying)
        except RuntimeError:
            flying.close()
            self._over(put)
            put.refuse(Refused(Refusal.UNAVAILABLE, "this exchange stops"))

    async def _fly(self, put: Put) -> None:
        try:
            try:
                put.reservation = await self._activate(put)
                put.check_wanted()
                answer = self._submit(put)
            except Refused as refused:
                if put.reservation is not None or refused.refusal.retryable:  # it was activated, or may have been
                    self.deactivate(put)
                put.refuse(refused)
                return
            put.stage = Stage.COMMITTING
            try:
                quote = await answer
                if not put.answer.done():
                    put.answer.set_result(quote)
            except Refused as refused:
                put.refuse(refused)
                if not put.begun:
                    self.deactivate(put)
                    return
            await put.committed.wait()
        finally:
            self._over(put)
            put.refuse(Refused(Refusal.OUTCOME_UNKNOWN, "this exchange stops"))

    async def _activate(self, put: Put) -> Reservation:
        """Have the reservation activated, by one token until the outcome is known or nobody waits for it."""
        request = put.request
        ask = Activate(
            reservation_id=request.reservation_id,
            quote_id=request.quote_id,
            symbol=self._symbol,
            position_version=request.position_version,
            revision=request.version.revision,
            attempt=request.attempt,
            bid_quantity=request.bid_quantity,
            ask_quantity=request.ask_quantity,
            activation=put.activation,
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
                if refused.refusal is not Refusal.OUTCOME_UNKNOWN or not put.waiting:
                    raise
                log.warning("activation not answered, asking again", quote_id=request.quote_id, reason=refused.detail)
            await asyncio.sleep(PAUSE)

    async def _deactivate(self, put: Put) -> None:
        ask = Deactivate(reservation_id=put.request.reservation_id, activation=put.activation)
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
