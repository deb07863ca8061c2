"""The orders that the benchmarks' load generator sends, and the answers that it counts."""

import asyncio
import re

import msgspec
import pytest

from bench.generator import Answers, Job, Requests, _Generator, thinned
from bench.noop import example
from loadgen.http import Response
from wire.orders import Order

JOB = Job(url="http://127.0.0.1:1", prefix="x", symbols=["AAA", "BBB"], connections=3, seconds=0.2, warm_up=0.0)


def sent(job: Job, count: int) -> list[Order]:
    requests = Requests(job)
    return [msgspec.json.decode(requests.next().partition(b"\r\n\r\n")[2], type=Order) for _ in range(count)]


def test_orders_have_unique_ids_and_take_symbols_and_sides_in_turn() -> None:
    orders = sent(JOB, 8)
    assert len({order.order_id for order in orders}) == 8
    assert [(order.symbol, order.side) for order in orders[:5]] == [
        ("AAA", "buy"), ("BBB", "buy"), ("AAA", "sell"), ("BBB", "sell"), ("AAA", "buy")
    ]  # fmt: skip


def test_the_content_length_is_that_of_the_body() -> None:
    head, _, body = Requests(JOB).next().partition(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    assert length is not None
    assert int(length[1]) == len(body)


def test_only_fills_count_as_filled_and_only_timely_answers_are_measured() -> None:
    answers = Answers(10.0, 20.0)
    filled = Response(200, msgspec.json.encode(example("a")), None)
    answers.take(filled, 9.0, 9.5)
    answers.take(filled, 9.5, 10.5)
    answers.take(filled, 19.5, 20.0)
    answers.take(Response(200, b'{"status":"rejected"}', None), 12.0, 13.0)
    answers.take(Response(503, b"later", None), 12.0, 13.0)
    assert (answers.filled, answers.rejected, answers.refused, answers.counted) == (3, 1, 1, 3)
    assert list(answers.latencies) == [1.0, 1.0]
    assert list(answers.refusals) == [1.0]
    assert "503" in answers.example


@pytest.mark.parametrize("rate", [None, 500.0])
async def test_every_order_is_answered_before_it_ends(rate: float | None) -> None:
    """An open loop sends as many orders as are due, however slow the answers are."""
    body = msgspec.json.encode(example("a"))
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    received = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        while await reader.read(10_000):
            received += 1
            await asyncio.sleep(0.01)
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    load = await _Generator(msgspec.structs.replace(JOB, url=f"http://127.0.0.1:{port}", rate=rate)).run()
    server.close()
    assert load.sent == load.filled == received
    if rate is not None:
        assert load.sent == 100
        assert load.latencies[-1] > 20, "three connections cannot keep up, so the latency includes the wait"


async def test_it_fails_if_a_connection_ends() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10_000)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(RuntimeError, match="a connection ended"):
        await _Generator(msgspec.structs.replace(JOB, url=f"http://127.0.0.1:{port}")).run()
    server.close()


def test_thinning_keeps_the_ends() -> None:
    assert thinned([1.0, 2.0], 5) == [1.0, 2.0]
    few = thinned([float(value) for value in range(1000)], 10)
    assert (len(few), few[0], few[-1]) == (10, 0.0, 999.0)
