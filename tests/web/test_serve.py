"""Running a service: it responds from the first moment, stops in order, and never dies silently."""

import ast
import asyncio
import json
import os
import signal
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from stack.settings import DEFAULT_PORTS
from support.broker import free_port
from support.http import plain_client
from support.waiting import eventually, finishes
from web.serve import PEER_TIMEOUT, listen

SCRIPT = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from support.builders import market
from process import logs
from web.app import create_app
from process.health import Health
from web.serve import run, serve
from process.settings import ServiceSettings, Stack

logs.configure("test")

async def service():
    {service}

async def stop():
    {stop}

async def main():
    settings = ServiceSettings(market=market(), stack=Stack(), port={port})
    app = create_app(title="t", description="d", health=Health("test", "nats"), routes=[])
    await serve(app, settings, service, stop)

run(main)
"""

FOREVER = "await asyncio.sleep(1000)"


async def start(service: str = FOREVER, stop: str = "pass") -> tuple[asyncio.subprocess.Process, str]:
    port = free_port()
    script = SCRIPT.format(tests=str(Path(__file__).parents[1]), service=service, stop=stop, port=port)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    return process, f"http://127.0.0.1:{port}"


async def answers(url: str) -> bool:
    async with plain_client() as http:
        return (await http.get(f"{url}/health")).status_code == 503


async def events(process: asyncio.subprocess.Process) -> list[str]:
    assert process.stdout is not None
    output = await finishes(process.stdout.read())
    return [json.loads(line)["event"] for line in output.splitlines()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_it_in_order_with_code_0(number: signal.Signals) -> None:
    process, url = await start(stop='print(\'{"event": "handed over"}\', flush=True)')
    await eventually(lambda: answers(url))
    process.send_signal(number)
    assert await finishes(process.wait()) == 0
    assert await events(process) == ["stopping", "handed over", "stopped"]


async def test_a_failed_loop_ends_it_with_code_1_and_is_logged() -> None:
    process, _ = await start(service='raise RuntimeError("the log is gone")')
    assert await finishes(process.wait()) == 1
    assert "service failed" in await events(process)


async def test_loops_that_return_end_it_with_code_1() -> None:
    process, _ = await start(service="return")
    assert await finishes(process.wait()) == 1


async def test_loops_that_lose_a_cancellation_are_cancelled_again() -> None:
    """Libraries may lose one: in Python 3.11, `wait_for` does if its result comes at the same moment."""
    lose_one = "try: await asyncio.sleep(1000)\n    except asyncio.CancelledError: await asyncio.sleep(1000)"
    process, url = await start(service=lose_one)
    await eventually(lambda: answers(url))
    process.terminate()
    assert await finishes(process.wait()) == 0
    assert await events(process) == ["stopping", "stopped"]


async def test_a_stop_that_hangs_is_cut_short() -> None:
    process, url = await start(stop=FOREVER)
    await eventually(lambda: answers(url))
    process.send_signal(signal.SIGTERM)
    assert await finishes(process.wait()) == 2


async def test_a_port_in_use_is_named() -> None:
    first, url = await start()
    await eventually(lambda: answers(url))
    port = int(url.rpartition(":")[2])
    script = SCRIPT.format(tests=str(Path(__file__).parents[1]), service=FOREVER, stop="pass", port=port)
    second = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    assert await finishes(second.wait()) == 1
    assert second.stdout is not None
    assert f"cannot listen on 127.0.0.1:{port}".encode() in await second.stdout.read()
    first.terminate()
    await first.wait()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux drops a peer that stops reading")
def test_the_kernel_drops_a_peer_that_stops_reading() -> None:
    port = free_port()
    with listen("127.0.0.1", port) as listener, socket.create_connection(("127.0.0.1", port)):
        accepted, _ = listener.accept()
        with accepted:
            timeout = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert timeout == PEER_TIMEOUT * 1000


async def test_a_service_on_a_public_address_without_tokens_does_not_start() -> None:
    """It ends with code 2, and one line names the setting."""
    environ = {**os.environ, "QS_STACK_HOST": "0.0.0.0"}  # noqa: S104 # refused
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "exchange", env=environ, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert len(errors.splitlines()) == 1
    assert b"set QS_STACK_TOKENS" in errors


@pytest.mark.parametrize("service", sorted(DEFAULT_PORTS))
def test_importing_a_service_does_not_start_it(service: str) -> None:
    """Tools import its `__main__`."""
    spec = find_spec(f"{service}.__main__")
    assert spec is not None
    assert spec.origin is not None
    last = ast.parse(Path(spec.origin).read_text()).body[-1]
    assert isinstance(last, ast.If)
    assert ast.unparse(last.test) == "__name__ == '__main__'"
