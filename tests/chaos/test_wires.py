"""What is done to the wires of one service, and to no other's."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from chaos.schedule import Fault
from chaos.up import altered
from chaos.wires import Wires
from stack.programs import Program
from support.broker import free_port
from support.waiting import HANG, finishes


class Line:
    """A connection through a service's wire to one who says everything again."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def say(self, text: bytes) -> None:
        self._writer.write(text)

    def hear(self, count: int) -> "asyncio.Task[bytes]":
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
async def wires(server: int) -> AsyncIterator[Wires]:
    async with Wires(["exchange", "maker"], [server]) as made:
        yield made


async def line(wires: Wires, service: str) -> Line:
    return Line(*await asyncio.open_connection("127.0.0.1", wires.ports[service]))


@pytest.mark.parametrize("way", ["to-server", "to-client", "both"])
async def test_a_stall_lets_so_many_bytes_pass_and_no_more_until_it_ends(wires: Wires, way: str) -> None:
    stalled, other = await line(wires, "exchange"), await line(wires, "maker")
    stalled.say(b"abc")
    assert await finishes(stalled.hear(3)) == b"abc"
    hurting = asyncio.create_task(
        wires.hurt(Fault(at=0, kind="stall", target="exchange", way=way, amount=2, lasts=3600))
    )
    await asyncio.sleep(0)
    stalled.say(b"12345")
    assert await finishes(stalled.hear(2)) == b"12"
    rest = stalled.hear(3)
    other.say(b"xyz")
    assert await finishes(other.hear(3)) == b"xyz"
    assert not rest.done()
    hurting.cancel()
    assert await finishes(rest) == b"345"
    stalled.close()
    other.close()


async def test_what_is_slow_arrives_later_and_in_order(wires: Wires) -> None:
    slow = await line(wires, "exchange")
    fault = Fault(at=0, kind="slow", target="exchange", way="both", amount=0.1, lasts=3600)
    hurting = asyncio.create_task(wires.hurt(fault))
    await asyncio.sleep(0)
    clock = asyncio.get_running_loop().time
    said = clock()
    for text in (b"a", b"b", b"c"):
        slow.say(text)
    assert await finishes(slow.hear(3)) == b"abc"
    assert clock() - said >= 0.2
    hurting.cancel()
    slow.close()


async def test_what_is_cut_has_ended_and_can_be_made_again(wires: Wires) -> None:
    cut = await line(wires, "exchange")
    cut.say(b"a")
    await finishes(cut.hear(1))
    await wires.hurt(Fault(at=0, kind="cut", target="exchange"))
    with pytest.raises((OSError, EOFError)):
        await finishes(cut.hear(1))
    again = await line(wires, "exchange")
    again.say(b"a")
    assert await finishes(again.hear(1), HANG) == b"a"
    again.close()


async def test_a_server_that_is_not_there_refuses_through_the_wire_too(wires: Wires) -> None:
    async with Wires(["ui"], [free_port()]) as dead:
        asking = await line(dead, "ui")
        with pytest.raises((OSError, EOFError)):
            await finishes(asking.hear(1))
        asking.close()


def test_a_program_finds_more_in_its_environment_and_others_do_not() -> None:
    program = Program("exchange", ("env", "A=1", "python"), health="h", address="a")
    more = {"exchange": {"B": "2"}}
    assert altered(program, more).command == ("env", "B=2", "env", "A=1", "python")
    assert altered(program, more).health == "h"
    assert altered(Program("maker", ("python",)), more) == Program("maker", ("python",))
