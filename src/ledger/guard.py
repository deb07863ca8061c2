"""Pauses symbols, or all symbols together, whose loss has reached its limit.

A pause is written to the bucket `switches`, which every maker obeys.

Ordering rules:
- Only committed positions at the end of the log are judged. While the ledger catches up, it would value past positions
  at today's prices, which means nothing.
- A pause is decided on the newest known message of its scope, and appended only if that is still the newest. Otherwise
  the loss is judged again once the newest message is known.
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

RETRY_DELAY = 1.0
"""Seconds before a pause that the broker did not accept is judged again."""

PAUSED = Gauge("ledger_loss_paused", "1 for each symbol that is paused for its loss", ["symbol"])
ALL_PAUSED = Gauge("ledger_loss_paused_all", "1 if all symbols are paused for their total loss, else 0")

log = structlog.get_logger()


class Guard:
    """Watches losses, and pauses."""

    def __init__(
        self, connection: Connection, health: Health, listings: Listings, applier: Applier, clock: Clock
    ) -> None:
        """The caller runs `listings` and `applier`."""
        self._connection = connection
        self._health = health
        self._log = LossLog(connection, self._pauses_changed, self._quarantine, name="ledger-losses")
        self._listings = listings
        self._applier = applier
        self._clock = clock
        self._losses = Losses()
        self._woken = asyncio.Event()

    def position_changed(self, symbol: str) -> None:
        """Schedule a check: the position of a symbol has changed."""
        self._losses.position_changed(symbol)
        self._woken.set()

    def relist(self, listings: Mapping[str, Listing]) -> None:
        """Update the listings, and schedule a check."""
        self._losses.relist(listings)
        self._woken.set()

    async def run(self) -> None:
        """Judge every change, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._log.run(), name="losses")
            group.create_task(self._judge_changes(), name="judge")

    def _pauses_changed(self) -> None:
        """Schedule a check: the pauses, or whether they are known, may have changed."""
        self._losses.recheck()
        self._woken.set()

    def _quarantine(self, stream: str, message: Message, why: str) -> None:
        self._health.quarantined(stream)
        log.error("message quarantined", subject=message.subject, sequence=message.sequence, error=why)

    async def _judge_changes(self) -> None:
        while True:
            await self._woken.wait()
            await self._applier.wait_until_caught_up()
            self._woken.clear()
            terms = self._listings.definitions.terms
            self._losses.max_total_loss = terms.max_loss if terms is not None else None
            if not self._losses.has_limits or not self._listings.current or not self._log.current:
                continue
            for pause in self._losses.judge(self._applier.books.accounts, self._log.latches, self._clock()):
                await self._pause(pause)

    async def _pause(self, pause: Pause) -> None:
        scope, why = pause.scope, pause.why
        try:
            outcome = await loss_log.append(self._connection, scope, why, pause.head)
        except Refused as refused:
            log.error("a pause for a loss was not accepted", symbol=scope, reason=refused.detail)  # noqa: TRY400 # the reason suffices
            await asyncio.sleep(RETRY_DELAY)
            self._pauses_changed()
            return
        if isinstance(outcome, Appended):
            self._log.latches.apply(outcome.sequence, subjects.loss_key(scope, paused=True), msgspec.json.encode(why))
            log.error("paused for its loss", symbol=scope or "all together", **msgspec.to_builtins(why))

    def notices(self) -> Mapping[str, str]:
        """Return why each symbol, or all of them, is paused for a loss, as text for people."""
        return {
            scope or "all symbols": pause_text(scope, why, COMMAND) for scope, why in self._log.latches.paused.items()
        }

    def measure(self) -> None:
        """Set the gauges that show state."""
        PAUSED.clear()
        paused = self._log.latches.paused
        ALL_PAUSED.set(None in paused)
        for scope in paused:
            if scope is not None:
                PAUSED.labels(scope).set(1)
