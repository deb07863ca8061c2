"""Requests of clients to services, in place of HTTP.

A client calls what a route calls. The request travels, the service answers in its own process, and the answer travels
back. If the process is down, the connection is refused; if it ends before it answers, the connection is dropped; if it
is paused or cut off, no answer comes.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from loadgen.http import Dropped, NotConnected, Response
from simulation.loop import Handle
from simulation.network import Latency
from simulation.world import Process, World
from wire.errors import Refused

Route = Callable[[Any], Awaitable[Any]]
"""Calls a service as a route does, and returns the body of the route's response."""


class Web:
    """The network between clients and services.

    Attributes:
        cut: names of processes that no client reaches; requests to them are lost.
        deaf: names of processes whose answers are lost.
    """

    def __init__(self, world: World, latency: Latency, serving: Callable[[str], tuple[Process, Any] | None]) -> None:
        self.cut: set[str] = set()
        self.deaf: set[str] = set()
        self._world = world
        self._latency = latency
        self._serving = serving

    def _after(self, call: Callable[..., None], *what: Any) -> None:
        self._world.after(self._latency.draw(self._world.network), call, *what)

    async def request(self, client: Process, target: str, route: Route) -> Response:
        """Send a request to a service. Blocks until an answer comes; use a timeout.

        Raises:
            NotConnected: its process is down.
            Dropped: its process ended before it answered.
        """
        answer: asyncio.Future[Response] = client.loop.create_future()
        self._after(self._arrive, client, target, route, answer)
        return await answer

    def _arrive(self, client: Process, target: str, route: Route, answer: "asyncio.Future[Response]") -> None:
        if target in self.cut:
            return
        found = self._serving(target)
        if found is None:
            self._back(client, answer, NotConnected("refused"))
            return
        process, service = found
        process.soon(Handle(self._begin, (process, service, target, client, route, answer), None))

    def _begin(
        self,
        process: Process,
        service: Any,
        target: str,
        client: Process,
        route: Route,
        answer: "asyncio.Future[Response]",
    ) -> None:
        answered = False

        def back(what: Response | Exception) -> None:
            nonlocal answered
            if not answered:
                answered = True
                process.on_end.remove(dropped)
                if target not in self.deaf and target not in self.cut:
                    self._back(client, answer, what)

        def dropped() -> None:
            nonlocal answered
            if not answered:
                answered = True
                self._back(client, answer, Dropped("the connection ended"))

        async def work() -> None:
            try:
                result = await route(service)
            except Refused as refused:
                again = None if refused.retry_after is None else str(refused.retry_after)
                back(Response(refused.refusal.status, msgspec.json.encode(refused.problem), again))
            except Exception as error:  # noqa: BLE001 # as the app does: status 500, and it is logged
                process.report_uncaught({"message": f"a route failed: {route}", "exception": error})
                back(Response(500, b"{}", None))
            else:
                back(Response(200, msgspec.json.encode(result), None))

        process.on_end.append(dropped)
        process.loop.create_task(work())

    def _back(self, client: Process, answer: "asyncio.Future[Response]", what: Response | Exception) -> None:
        self._after(self._returned, client, answer, what)

    def _returned(self, client: Process, answer: "asyncio.Future[Response]", what: Response | Exception) -> None:
        client.soon(Handle(_settle, (answer, what), None))


def _settle(answer: "asyncio.Future[Response]", what: Response | Exception) -> None:
    if answer.done():
        return
    if isinstance(what, Exception):
        answer.set_exception(what)
    else:
        answer.set_result(what)
