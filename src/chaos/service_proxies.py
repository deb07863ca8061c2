"""Proxies between services and NATS servers: each service has its own, so that faults affect only its network."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from chaos.proxy import DIRECTIONS, Direction, Proxy
from chaos.schedule import Fault
from stack.ports import free_ports


class ServiceProxies:
    """The proxies of all services. A context manager: the proxies listen within the block."""

    def __init__(self, services: Sequence[str], servers: Sequence[int], taken: Sequence[int] = ()) -> None:
        """`servers` are the ports of the NATS servers; `taken` are ports that other processes will listen on."""
        self._servers = servers
        ports = free_ports(len(services))
        while set(taken) & {port + number for port in ports for number in range(len(servers))}:
            ports = free_ports(len(services))
        self._ports = dict(zip(services, ports, strict=True))
        self._proxies: dict[str, list[Proxy]] = {}
        self._exits = AsyncExitStack()

    @property
    def ports(self) -> Mapping[str, int]:
        """The port of each service's proxy to the first server; those to further servers have the next ports."""
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

    async def inject(self, fault: Fault) -> None:
        """Inject a fault into a service's connections, and return when it has ended."""
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
                # Connections that have not yet sent that many bytes are stalled, too, before the fault ends.
                await asyncio.sleep(fault.seconds / 4)
                for proxy in proxies:
                    await proxy.stall(*ways)
                await asyncio.sleep(3 * fault.seconds / 4)
            else:
                await asyncio.sleep(fault.seconds)
        finally:
            for proxy in proxies:
                await proxy.heal()
