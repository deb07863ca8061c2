"""Pauses what has lost as much as it may, by the bucket `switches`, which every maker obeys.

Ordering rules:
- What is judged is committed, and at the end of the log, as far as is known here: what a position was worth on the way
  there, at the prices of today, says nothing.
- What is to be written is decided on the newest that is known of the bucket, and appended only if that is the newest.
  If it is not, it is judged anew once the newest is known.
"""

import asyncio
from collections.abc import Mapping

import msgspec
import structlog
from prometheus_client import Gauge

from jet import loss_log
from jet.connection import Connection
from jet.journal import Appended
from jet.listings import Listings
from jet.loss_log import LossLog
from jet.tail import Message
from ledger.applier import Applier
from ledger.losses import Losses, Pause
from process.clock import Clock
from process.health import Health
from process.installation import COMMAND
from wire import subjects
from wire.errors import Refused
from wire.instruments import Listing
from wire.losses import pause_text

TRY_AGAIN = 1.0
"""Seconds until a pause is written again that the broker does not take."""

PAUSED = Gauge("ledger_loss_paused", "Symbols that are paused for their loss", ["symbol"])
ALL_PAUSED = Gauge("ledger_loss_paused_all", "Whether all symbols are paused for the loss of all together")

log = structlog.get_logger()


class Guard:
    """The one who pauses."""

    def __init__(
        self, connection: Connection, health: Health, listings: Listings, applier: Applier, clock: Clock
    ) -> None:
        """Of a ledger, which runs `listings` and `applier`."""
        self._connection = connection
        self._health = health
        self._log = LossLog(connection, self._latched, self._quarantine, name="ledger-losses")
        self._listings = listings
        self._applier = applier
        self._clock = clock
        self._losses = Losses()
        self._woken = asyncio.Event()

    def committed(self, symbol: str) -> None:
        """The position of a symbol is another."""
        self._losses.moved(symbol)
        self._woken.set()

    def relist(self, listings: Mapping[str, Listing]) -> None:
        """These symbols are listed so from now on, and what all share may be other."""
        self._losses.relist(listings)
        self._woken.set()

    async def run(self) -> None:
        """Judge whatever moves, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._log.run(), name="losses")
            group.create_task(self._judge(), name="judge")

    def _latched(self) -> None:
        """What is paused, or how well that is known, may be other."""
        self._losses.again()
        self._woken.set()

    def _quarantine(self, stream: str, message: Message, why: str) -> None:
        self._health.quarantined(stream)
        log.error("message quarantined", subject=message.subject, sequence=message.sequence, error=why)

    async def _judge(self) -> None:
        while True:
            await self._woken.wait()
            await self._applier.caught_up()
            self._woken.clear()
            terms = self._listings.definitions.terms
            self._losses.most = terms.max_loss if terms is not None else None
            if not self._losses.are_limited or not self._listings.current or not self._log.current:
                continue
            for pause in self._losses.judge(self._applier.books.accounts, self._log.latches, self._clock()):
                await self._pause(pause)

    async def _pause(self, pause: Pause) -> None:
        scope, why = pause.scope, pause.why
        try:
            outcome = await loss_log.append(self._connection, scope, why, pause.head)
        except Refused as refused:
            log.error("paused for no loss: the broker does not take it", symbol=scope, reason=refused.detail)  # noqa: TRY400 # it says all
            await asyncio.sleep(TRY_AGAIN)
            self._latched()
            return
        if isinstance(outcome, Appended):
            self._log.latches.apply(outcome.sequence, subjects.loss_key(scope, paused=True), msgspec.json.encode(why))
            log.error("paused for its loss", symbol=scope or "all together", **msgspec.to_builtins(why))

    def notices(self) -> Mapping[str, str]:
        """What is paused for its loss, for people."""
        return {
            scope or "all symbols": pause_text(scope, why, COMMAND) for scope, why in self._log.latches.paused.items()
        }

    def measure(self) -> None:
        """Set the gauges that are read off state."""
        PAUSED.clear()
        paused = self._log.latches.paused
        ALL_PAUSED.set(None in paused)
        for scope in paused:
            if scope is not None:
                PAUSED.labels(scope).set(1)
