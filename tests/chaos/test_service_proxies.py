"""Faults of one service's network do not affect other services."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from chaos.schedule import Fault
from chaos.service_proxies import ServiceProxies
from chaos.start_stack import with_environment
from stack.programs import Program
from support.broker import free_port
from support.waiting import HANG, finishes


class Line:
    """A connection through a service's proxy to an echo server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, text: bytes) -> None:
        self._writer.write(text)

    def receive(self, count: int) -> "asyncio.Task[bytes]":
        return asyncio.create_task(self._reader.readexactly(count))

    def close(self) -> None:
        self._writer.close()


@pytest.fixture
async def server() -> AsyncIterator[int]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()

    port = free_port()
    listening = await asyncio.start_server(echo, "127.0.0.1", port)
    yield port
    listening.close()


@pytest.fixture
async def proxies(server: int) -> AsyncIterator[ServiceProxies]:
    async with ServiceProxies(["exchange", "maker"], [server]) as made:
        yield made


async def line(proxies: ServiceProxies, service: str) -> Line:
    return Line(*await asyncio.open_connection("127.0.0.1", proxies.ports[service]))


@pytest.mark.parametrize("way", ["to-server", "to-client", "both"])
async def test_a_stall_lets_some_bytes_pass_and_no_more_until_it_ends(proxies: ServiceProxies, way: str) -> None:
    stalled, other = await line(proxies, "exchange"), await line(proxies, "maker")
    stalled.send(b"abc")
    assert await finishes(stalled.receive(3)) == b"abc"
    injecting = asyncio.create_task(
        proxies.inject(Fault(at=0, kind="stall", target="exchange", way=way, amount=2, seconds=3600))
    )
    await asyncio.sleep(0)
    stalled.send(b"12345")
    assert await finishes(stalled.receive(2)) == b"12"
    rest = stalled.receive(3)
    other.send(b"xyz")
    assert await finishes(other.receive(3)) == b"xyz"
    assert not rest.done()
    injecting.cancel()
    assert await finishes(rest) == b"345"
    stalled.close()
    other.close()


async def test_delayed_bytes_arrive_late_and_in_order(proxies: ServiceProxies) -> None:
    slow = await line(proxies, "exchange")
    fault = Fault(at=0, kind="slow", target="exchange", way="both", amount=0.1, seconds=3600)
    injecting = asyncio.create_task(proxies.inject(fault))
    await asyncio.sleep(0)
    clock = asyncio.get_running_loop().time
    sent_at = clock()
    for text in (b"a", b"b", b"c"):
        slow.send(text)
    assert await finishes(slow.receive(3)) == b"abc"
    assert clock() - sent_at >= 0.2
    injecting.cancel()
    slow.close()


async def test_a_cut_ends_connections_and_new_ones_can_be_made(proxies: ServiceProxies) -> None:
    cut = await line(proxies, "exchange")
    cut.send(b"a")
    await finishes(cut.receive(1))
    await proxies.inject(Fault(at=0, kind="cut", target="exchange"))
    with pytest.raises((OSError, EOFError)):
        await finishes(cut.receive(1))
    again = await line(proxies, "exchange")
    again.send(b"a")
    assert await finishes(again.receive(1), HANG) == b"a"
    again.close()


async def test_a_server_that_is_down_refuses_connections_through_the_proxy_too(proxies: ServiceProxies) -> None:
    async with ServiceProxies(["ui"], [free_port()]) as dead:
        asking = await line(dead, "ui")
        with pytest.raises((OSError, EOFError)):
            await finishes(asking.receive(1))
        asking.close()


def test_variables_are_added_to_the_environment_of_one_program_only() -> None:
    program = Program("exchange", ("env", "A=1", "python"), health="h", address="a")
    more = {"exchange": {"B": "2"}}
    assert with_environment(program, more).command == ("env", "B=2", "env", "A=1", "python")
    assert with_environment(program, more).health == "h"
    assert with_environment(Program("maker", ("python",)), more) == Program("maker", ("python",))
