"""The wires between services and NATS servers: a proxy for each, so that each service's network can be hurt alone."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from chaos.proxy import DIRECTIONS, Direction, Proxy
from chaos.schedule import Fault
from stack.ports import free_ports


class Wires:
    """Every service's proxies. A context manager: entering it, they listen."""

    def __init__(self, services: Sequence[str], servers: Sequence[int], taken: Sequence[int] = ()) -> None:
        """Of services by name, to the ports of the NATS servers; `taken` are ports that others will listen on."""
        self._servers = servers
        ports = free_ports(len(services))
        while set(taken) & {port + number for port in ports for number in range(len(servers))}:
            ports = free_ports(len(services))
        self._ports = dict(zip(services, ports, strict=True))
        self._proxies: dict[str, list[Proxy]] = {}
        self._exits = AsyncExitStack()

    @property
    def ports(self) -> Mapping[str, int]:
        """Where each service finds the first of its proxies; those to further servers are at the next ports."""
        return self._ports

    async def __aenter__(self) -> Self:
        for service, port in self._ports.items():
            self._proxies[service] = [
                await self._exits.enter_async_context(Proxy(server, listen=port + number))
                for number, server in enumerate(self._servers)
            ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exits.aclose()

    async def hurt(self, fault: Fault) -> None:
        """Do to a service's wires what a fault says, for as long as it says."""
        proxies = self._proxies[fault.target]
        if fault.kind == "cut":
            for proxy in proxies:
                proxy.cut()
            return
        ways: list[Direction] = [way for way in DIRECTIONS if fault.way in (way, "both")]
        try:
            for proxy in proxies:
                if fault.kind == "stall":
                    for way in ways:
                        await proxy.stall(way, after=proxy.passed[way] + int(fault.amount))
                else:
                    await proxy.delay(fault.amount, *ways)
            if fault.kind == "stall":
                # What has not yet sent so much as would pass is stalled too, before this ends.
                await asyncio.sleep(fault.lasts / 4)
                for proxy in proxies:
                    await proxy.stall(*ways)
                await asyncio.sleep(3 * fault.lasts / 4)
            else:
                await asyncio.sleep(fault.lasts)
        finally:
            for proxy in proxies:
                await proxy.heal()
