"""The documents' instructions for operators and integrators, tried on a running stack: the examples, the metrics, the
commands of the `nats` page, and a new symbol."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import msgspec
import nats
import pytest
from nats.aio.client import Client

from jet.grants import inbox
from stack.isolated_env import SYMBOL as TABLE
from support.http import plain_client
from support.needs import NATS, needs
from support.stack import SERVICES, Desk, Stack
from support.waiting import STACK_HANG, eventually
from wire import subjects
from wire.orders import RecordedFill
from wire.quotes import QuoteActivated
from wire.reservations import ReservationRecord

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
NATS_PAGE = (ROOT / "docs" / "nats-cli.md").read_text()
SYMBOL = "AAPL"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One symbol, whose maker is paused, and no order flow."""
    running = Stack(tmp_path_factory.mktemp("documented"), [SYMBOL], LOADGEN_RATE=0.000001)
    running.start()
    assert httpx.post(running.url("maker", "/pause"), timeout=STACK_HANG).status_code == 200
    yield running
    assert running.stop() == 0, running.output()


@pytest.fixture
async def desk(stack: Stack) -> AsyncIterator[Desk]:
    async with plain_client(timeout=STACK_HANG) as http:
        yield Desk(stack, http)


@pytest.fixture
async def broker(stack: Stack) -> AsyncIterator[Client]:
    """A client that is not ours, like that of the `nats` command line."""
    seed = stack.settings.stack.nats_seed("observer")
    client = await nats.connect(stack.nats_url, nkeys_seed=str(seed), inbox_prefix=inbox("observer"))
    yield client
    await client.close()


# --- examples ---------------------------------------------------------------------------------------------------------


def environ(stack: Stack) -> dict[str, str]:
    services = ("exchange", "ledger", "exposure")
    return {**os.environ, **{service.upper(): stack.url(service) for service in services}}


def started(command: list[str], **how: Any) -> subprocess.Popen[bytes]:
    """Start a process in its own session, together with its children."""
    return subprocess.Popen(command, start_new_session=True, **how)


def order(stack: Stack, *arguments: str) -> tuple[int, str]:
    """Run the order client. Return its exit code and the last line of its output."""
    command = [sys.executable, "examples/order_client.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environ(stack), capture_output=True, text=True, timeout=STACK_HANG)
    return done.returncode, done.stdout.strip().splitlines()[-1]


async def test_the_examples_trade_with_each_other(stack: Stack, desk: Desk) -> None:
    before = await desk.position(SYMBOL)
    mid = Decimal("100.00") + Decimal("0.01") * before["net_quantity"]  # at which it quotes around 100.00 now

    async def quoted(bid: str, ask: str) -> bool:
        quotes = await desk.get("exchange", "/quotes")
        return [(quote["bid_price"], quote["ask_price"]) for quote in quotes] == [(bid, ask)]

    command = [sys.executable, "examples/maker.py", SYMBOL, str(mid), "0.01"]
    maker = started(command, cwd=ROOT, env=environ(stack), stdout=subprocess.DEVNULL)
    try:
        await eventually(lambda: quoted("99.95", "100.05"), STACK_HANG)
        assert order(stack, SYMBOL, "buy", "2", "100.05") == (0, "filled")
        await eventually(lambda: quoted("99.97", "100.07"), STACK_HANG)  # shorter now, it leans towards buying
        assert order(stack, SYMBOL, "sell", "7", "99.97") == (0, "partially_filled")
        after = await desk.position_becomes(SYMBOL, before["net_quantity"] + 3)
        assert after["position_version"] == before["position_version"] + 2
        assert order(stack, SYMBOL, "buy", "1", "90.00") == (1, "rejected not_marketable")
        assert order(stack, SYMBOL, "buy", "0", "90.00")[0] == 2
    finally:
        maker.send_signal(signal.SIGINT)
        try:
            assert maker.wait(STACK_HANG) == 0
        finally:
            maker.kill()
    assert await desk.get("exchange", "/quotes") == []


@pytest.mark.parametrize("name", ["maker", "order_client"])
def test_an_example_is_short(name: str) -> None:
    assert len((ROOT / "examples" / f"{name}.py").read_text().splitlines()) < 60


# --- metrics ----------------------------------------------------------------------------------------------------------


async def test_every_metric_of_the_dashboard_and_the_alerts_is_exported_by_a_service(desk: Desk) -> None:
    metrics = ""
    for service in SERVICES:
        metrics += (await desk.http.get(desk.stack.url(service, "/metrics"))).text
    families = set(re.findall(r"^# TYPE (\w+) ", metrics, flags=re.MULTILINE))
    text = (ROOT / "ops" / "dashboard.json").read_text() + (ROOT / "ops" / "alerts.yml").read_text()
    used = set(re.findall(r"\b(?:quotestream|process|exchange|ledger|exposure|maker)_[a-z_]+[a-z]\b", text))
    assert used
    assert {name for name in used if re.sub(r"_(bucket|sum|count)$", "", name) not in families} == set()


# --- the nats command line --------------------------------------------------------------------------------------------


async def traded(desk: Desk) -> None:
    """Make one quote, one fill on it, and wait for its position."""
    before = (await desk.position(SYMBOL))["net_quantity"]
    await desk.quoted(SYMBOL)
    assert (await desk.order(f"order-{os.urandom(4).hex()}", SYMBOL, quantity=1))["status"] == "filled"
    await desk.position_becomes(SYMBOL, before - 1)


async def test_what_the_nats_page_reads_exists(desk: Desk, broker: Client) -> None:
    """The requests of its commands, sent by another client."""
    await traded(desk)
    jetstream = broker.jetstream(timeout=STACK_HANG)
    shard = subjects.shard_of(SYMBOL, 4)
    last = await jetstream.get_last_msg(f"MARKET-{shard}", f"fills.{shard}.{SYMBOL}")
    assert msgspec.json.decode(last.data or b"", type=list[RecordedFill])[-1].symbol == SYMBOL
    quotes = await jetstream.key_value("quotes")
    entry = await eventually(lambda: quotes.get(SYMBOL))  # a projection: it follows
    assert msgspec.json.decode(entry.value or b"", type=QuoteActivated).symbol == SYMBOL

    async def held() -> bytes | None:
        """Return a reservation that has not expired; the last message of an expired key is a marker."""
        kept = (await jetstream.stream_info("KV_reservations", subjects_filter=">")).state.subjects or {}
        found = [await jetstream.get_last_msg("KV_reservations", subject) for subject in kept]
        return next((message.data for message in found if message.data), None)

    assert msgspec.json.decode(await eventually(held) or b"", type=ReservationRecord).symbol == SYMBOL
    usage = await broker.request("rpc.exposure.usage", b"{}", timeout=STACK_HANG)
    assert json.loads(usage.data)["limit"] == 100


FOLLOWERS = ("exchange", "exposure-market-0", "ledger", "maker-market")
"""The names of a shard's consumers according to the page, without their suffixes."""


async def test_followers_have_the_documented_names_and_no_lag_when_nothing_happens(broker: Client) -> None:
    async def lags() -> dict[str, int]:
        consumers = await broker.jetstream(timeout=STACK_HANG).consumers_info("MARKET-0")
        found = {info.name.rpartition("-")[0]: info.num_pending or 0 for info in consumers}
        return {name: lag for name, lag in found.items() if name in FOLLOWERS}

    await eventually(lambda: _is(lags, dict.fromkeys(FOLLOWERS, 0)))


async def test_services_are_found_by_discovery(broker: Client) -> None:
    inbox = broker.new_inbox()
    answers = await broker.subscribe(inbox)
    await broker.publish("$SRV.PING", reply=inbox)
    found = {json.loads((await answers.next_msg(timeout=STACK_HANG)).data)["name"] for _ in range(4)}
    assert found == {"exchange", "exposure", "ledger", "maker"}


def commands() -> Iterator[str]:
    """Every command of the page, without those that set it up."""
    for block in re.findall(r"^```sh\n(.*?)^```$", NATS_PAGE, flags=re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            command = line.partition(" #")[0].strip()
            if command.startswith(("nats ", "timeout ")) and "context select" not in command:
                yield command


WATCHES = ("sub", "watch")
"""Subcommands that run until they are stopped."""


@needs(NATS)
@pytest.mark.parametrize("command", list(commands()))
async def test_a_command_of_the_nats_page_works(desk: Desk, tmp_path: Path, command: str) -> None:
    await traded(desk)
    where = {"url": desk.stack.nats_url, "nkey": str(desk.stack.settings.stack.nats_seed("observer"))}
    context = json.loads((ROOT / "nats" / "quotestream.json").read_text()) | where
    folder = tmp_path / "nats" / "context"
    folder.mkdir(parents=True)
    (folder / "quotestream.json").write_text(json.dumps(context))
    (tmp_path / "nats" / "context.txt").write_text("quotestream")
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path)}

    def run() -> "subprocess.Popen[bytes]":
        return started(["sh", "-c", command], env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def answered() -> bool:
        """Run the command; again if there is no answer within its 5 s, as on a busy machine."""
        running = run()
        output, errors = running.communicate(timeout=STACK_HANG)
        assert running.returncode == 0, errors
        return bool(output or errors)

    if not command.startswith("timeout ") and any(word in command.split() for word in WATCHES):
        running = run()
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(2)
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate()
    else:
        await eventually(answered, STACK_HANG)


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.last
async def test_the_market_changes_while_everything_runs_and_the_audit_judges_by_each_revision(
    stack: Stack, desk: Desk
) -> None:
    async def quotes() -> dict[str, Any]:
        return {quote["symbol"]: quote for quote in await desk.get("exchange", "/quotes")}

    async def moved() -> bool:
        return (await quotes())[SYMBOL]["revision"] > first["revision"]

    before = stack.pids()
    assert _resumed(stack)
    first = (await eventually(quotes, STACK_HANG))[SYMBOL]

    add_symbol(stack, "NEW")
    differs = operator(stack, "market", "diff")
    assert (differs.returncode, "NEW: tick - → 0.01" in differs.stdout) == (1, True), differs
    assert operator(stack, "market", "apply").returncode == 0
    assert operator(stack, "market", "diff").returncode == 0
    await eventually(lambda: _is(lambda: _keys(quotes), {SYMBOL, "NEW"}), STACK_HANG)
    assert (await desk.order("the-first", "NEW"))["status"] == "filled"
    await desk.position_becomes("NEW", -5)

    assert operator(stack, "symbol", SYMBOL, "reference_price=105.00").returncode == 0
    await eventually(moved, STACK_HANG)
    assert Decimal((await quotes())[SYMBOL]["bid_price"]) > Decimal(103)

    refused = operator(stack, "symbol", SYMBOL, "tick=0.11")
    assert (refused.returncode, "reference_price" in refused.stderr) == (2, True), refused
    unknown = operator(stack, "symbol", SYMBOL, "colour=red")
    assert (unknown.returncode, "colour" in unknown.stderr) == (2, True), unknown

    assert operator(stack, "symbol", "NEW", "state=delisted").returncode == 0
    await eventually(lambda: _is(lambda: _keys(quotes), {SYMBOL}), STACK_HANG)
    assert (await desk.position("NEW"))["net_quantity"] == -5
    assert stack.pids() == before, "something was restarted"

    audited = operator(stack, "--json", program="audit")
    assert audited.returncode == 0, audited.stdout + audited.stderr
    verdicts = {verdict["code"]: verdict["status"] for verdict in json.loads(audited.stdout)["verdicts"]}
    assert {verdicts[code] for code in ("I1", "I2", "I10", "I12")} == {"proved"}


def operator(stack: Stack, *words: str, program: str = "stack") -> "subprocess.CompletedProcess[str]":
    """Run a recipe, as the stack's operator does."""
    command = [sys.executable, "-m", program, *words]
    return subprocess.run(command, env=stack.environ, capture_output=True, text=True, timeout=STACK_HANG)


async def _keys(ask: Callable[[], Awaitable[dict[str, Any]]]) -> set[str]:
    return set(await ask())


def add_symbol(stack: Stack, name: str) -> None:
    """Edit the market file, as a person would."""
    with Path(stack.environ["QS_MARKET_FILE"]).open("a") as market:
        market.write(TABLE.format(name=name, size=10))


def _resumed(stack: Stack) -> bool:
    return httpx.post(stack.url("maker", "/resume"), timeout=STACK_HANG).status_code == 200


async def _is(ask: Callable[[], Awaitable[object]], expected: object) -> bool:
    return await ask() == expected
