"""Operators that pause and resume the makers, and a check of the switch in the log."""

from typing import Any

import msgspec

from simulation.client_process import PATIENCE, ClientProcess

CHANGES_MIND = 0.5
"""The share of operators who, if their pause is not acknowledged, ask another maker to resume at once."""


class SwitchRequest(msgspec.Struct):
    """A pause or resume, as its operator saw it. Times are seconds of the world.

    Attributes:
        sent_at: when it was sent.
        acknowledged_at: when it was acknowledged; None if it was not.
        answered_at: when any answer came; None if none has.
    """

    paused: bool
    maker: str
    sent_at: float
    acknowledged_at: float | None = None
    answered_at: float | None = None


class Operators:
    """All operators.

    Attributes:
        requests: their pauses and resumes, in the order in which they were sent.
    """

    def __init__(self, host: ClientProcess) -> None:
        self.requests: list[SwitchRequest] = []
        self._host = host
        host.monitor.on_switch = self._switched

    async def work(self) -> None:
        """Set the kill switch at random times until the process ends."""
        async for _ in self._host.every(self._host.system.plan.switch_rate):
            maker = self._host.one_of("maker")
            self._host.begin(self._work(maker, paused=self._host.random.random() < 0.5))

    async def _work(self, maker: str, *, paused: bool) -> None:
        acknowledged = await self.switch(maker, paused=paused)
        if paused and not acknowledged and self._host.random.random() < CHANGES_MIND:
            await self.switch(self._host.one_of("maker"), paused=False)

    async def switch(self, maker: str, *, paused: bool) -> bool:
        """Pause or resume a maker. True if it was acknowledged."""

        async def route(service: Any) -> Any:
            return await (service.pause() if paused else service.resume())

        request = SwitchRequest(paused, maker, self._host.world.now)
        self.requests.append(request)
        self._host.world.trace.add("client", "asks", f"{maker} to {'pause' if paused else 'resume'}")
        response = await self._host.request(maker, route, PATIENCE)
        acknowledged = response is not None and response.status == 200
        if response is not None:
            request.answered_at = self._host.world.now
        if acknowledged:
            request.acknowledged_at = self._host.world.now
        self._host.world.trace.add(
            "client", "is told", f"{response.status if response else 'nothing'} to {'pause' if paused else 'resume'}"
        )
        return acknowledged

    def _switched(self, paused: bool) -> None:
        """Check the switch when it is written to the log: no answered pause may follow a resume that was sent later."""
        resumes = [request for request in self.requests if not request.paused and request.acknowledged_at is not None]
        if not paused or not resumes:
            return
        last = resumes[-1]
        may = [
            request
            for request in self.requests
            if request.paused and (request.answered_at is None or request.answered_at >= last.sent_at)
        ]
        if not may:
            now, resumed = self._host.world.now, f"a resume that was sent at {last.sent_at:.3f} and acknowledged"
            self._host.wrong.append(f"a pause is written at {now:.3f}, but none was requested since {resumed}")
