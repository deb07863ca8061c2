"""Operators that acknowledge losses, and so resume what is paused for them."""

import msgspec

from simulation.client_process import ClientProcess
from wire import subjects
from wire.losses import Scope
from wire.switches import LossResumed
from wire.units import ZERO

STREAM = subjects.bucket_stream(subjects.SWITCHES_BUCKET)


class Resumers:
    """One operator, who writes the same messages as `./qs resume`."""

    def __init__(self, host: ClientProcess) -> None:
        self._host = host
        self._written = 0

    async def work(self) -> None:
        """Resume what is paused, at random times, until the process ends."""
        async for _ in self._host.every(self._host.system.plan.resume_rate):
            for scope in list(self._host.monitor.losses.latches.paused):
                if self._host.random.random() < 0.5:
                    self._resume(scope)

    def _resume(self, scope: Scope) -> None:
        latch, broker = self._host.monitor.losses.latches.of(scope), self._host.system.broker
        if latch.paused is None or not broker.up:
            return
        self._written += 1
        token = f"operator-{self._written}"
        value = LossResumed(at=broker.clock(), acknowledged=max(latch.paused.loss, ZERO))
        headers = {
            "Nats-Msg-Id": token,
            "Nats-Expected-Stream": STREAM,
            "Nats-Expected-Last-Subject-Sequence": str(latch.head),
            "Nats-Expected-Last-Subject-Sequence-Subject": subjects.loss_head(scope),
            "Quotestream-Append": token,
        }
        self._host.world.trace.add("client", "resumes", scope or "all")
        broker.do(broker.publish_as_broker, subjects.loss_key(scope, paused=False), msgspec.json.encode(value), headers)
