"""The whole system with tokens and TLS: HTTPS to every service, TLS to the broker, and our commands with both."""

import asyncio
import json
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from jet.connection import Connection
from process.health import Health
from support.access import auth_headers, token_folder, write_tokens
from support.stack import Desk, Stack
from support.waiting import STACK_HANG, eventually
from web.roles import Role

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One symbol, a certificate as `./qs tls` creates it, and a token for each role."""
    folder = tmp_path_factory.mktemp("secured")
    names = ("--identities", "localhost", "127.0.0.1", "::1")
    subprocess.run([sys.executable, "-m", "trustme", "--quiet", "--dir", folder, *names], check=True)
    stack = Stack(
        folder,
        ["AAPL"],
        LOADGEN_RATE=1,
        STACK_TOKENS=token_folder(folder / "tokens"),
        STACK_TLS_CERTIFICATE=folder / "server.pem",
        STACK_TLS_KEY=folder / "server.key",
        STACK_TLS_CA=folder / "client.pem",
    )
    stack.start()
    yield stack
    assert stack.stop() == 0, stack.output()


@pytest.fixture
async def http(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(verify=stack.tls or True, timeout=STACK_HANG) as client:
        yield client


def command(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words], env=stack.environ, capture_output=True, text=True, timeout=STACK_HANG
    )


async def test_an_order_needs_a_traders_token_and_trust_in_the_certificate(
    stack: Stack, http: httpx.AsyncClient
) -> None:
    http.headers = httpx.Headers(auth_headers(Role.TRADER))
    result = await eventually(lambda: filled(Desk(stack, http)), STACK_HANG)
    assert result["fills"]
    http.headers = httpx.Headers()
    assert (await http.post(stack.url("exchange", "/orders"), json={})).status_code == 401
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        async with httpx.AsyncClient(timeout=STACK_HANG) as stranger:
            await stranger.get(stack.url("exchange", "/health"))


async def filled(desk: Desk) -> Any:
    """Send an order. Return its result if it was filled."""
    result = await desk.order("mine", "AAPL", quantity=1)
    return result if result["fills"] else None


async def test_only_readers_get_a_stream_over_tls(stack: Stack) -> None:
    url = stack.url("ledger", "/positions/stream").replace("https://", "wss://")
    async with connect(url, ssl=stack.tls, additional_headers=auth_headers(Role.READER)) as socket:
        assert json.loads(await socket.recv())[0]["symbol"] == "AAPL"
    for role in (None, Role.TRADER):
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, ssl=stack.tls, additional_headers=auth_headers(role) if role else {})
        assert refused.value.response.status_code == 403


async def test_the_broker_refuses_connections_without_tls_or_without_a_certificate(stack: Stack) -> None:
    seed = stack.settings.stack.nats_seed("observer")
    strangers = ssl.create_default_context(cafile=stack.settings.stack.tls_ca)
    for url, context, why in (
        (stack.nats_url, None, "CERTIFICATE_VERIFY_FAILED"),
        (stack.nats_url, strangers, "CERTIFICATE_REQUIRED"),
    ):
        health = Health("test")
        connection = Connection(url, "test", health, seed, context)
        connecting = asyncio.create_task(connection.__aenter__())
        await eventually(lambda: why in health.report().waiting_for[0].reason)  # noqa: B023 # it ends here
        connecting.cancel()
        await asyncio.wait([connecting])


def test_our_commands_use_the_certificate_and_the_tokens(stack: Stack) -> None:
    status = command(stack, "stack", "status")
    assert (status.returncode, "https://127.0.0.1" in status.stdout) == (0, True), status.stdout
    load = command(stack, "loadgen", "--rate", "20", "--duration", "0.5")
    assert load.returncode == 0, load.stdout + load.stderr
    audit = command(stack, "audit")
    assert audit.returncode == 0, audit.stdout + audit.stderr


@pytest.mark.last
async def test_a_token_is_changed_while_everything_runs(stack: Stack, http: httpx.AsyncClient) -> None:
    changed = command(stack, "stack", "tokens", "--change", "operator")
    assert changed.returncode == 0, changed.stderr
    folder = Path(stack.settings.stack.tokens)
    new, old = (folder / Role.OPERATOR).read_text().split()
    assert new not in changed.stdout

    async def pauses(token: str) -> bool:
        answer = await http.post(stack.url("maker", "/pause"), headers={"Authorization": f"Bearer {token}"})
        return answer.status_code == 200

    await eventually(lambda: pauses(new))
    assert await pauses(old)
    write_tokens(folder, Role.OPERATOR, new)
    await eventually(lambda: refused(pauses, old))
    logs = "".join(path.read_text() for path in stack.settings.logs.glob("*.log"))
    assert "tokens read again" in logs
    assert new not in logs
    assert old not in logs


async def refused(pauses: Any, token: str) -> bool:
    return not await pauses(token)
