"""What each user of the broker may do, tried on a real server and compared with `docs/permissions.md`."""

import asyncio
import re
import shutil
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import nats
import nkeys
import pytest
from nats.aio.client import Client

from exchange.service import Exchange
from jet import api, connection, journal, rpc
from jet.connection import Connection
from jet.grants import READER_ACCOUNTS, SERVICES_ACCOUNT, Grant, exports, grants, imports, matches
from jet.journal import Compare
from jet.tail import FromSequence, Tail
from process.clock import utc_now
from process.health import Health
from support.builders import order
from support.exchange import ExposureStandIn, quoted
from support.matrix import GRANTS, PAGE, REFUSED, made, sample
from support.secured import Server, processed, serving
from support.waiting import HANG, eventually, reaches
from wire import subjects
from wire.errors import Refusal, Refused
from wire.reservations import Deactivate, Exposure, UsageRequest

CRIPPLED = Grant(
    "crippled",
    tuple(subject for subject in GRANTS["exchange"].publish if not subject.startswith("fills.")),
    GRANTS["exchange"].subscribe,
)
"""An exchange that may not write fills."""


@dataclass(frozen=True)
class Row:
    """One line of the matrix, or an operation that nobody may do: what is tried, and who may do it."""

    operation: str
    label: str
    allowed: dict[str, bool]

    @property
    def subject(self) -> str:
        return sample(self.label)


def matrix(text: str) -> list[Row]:
    """The rows of the page's tables. A user who has no column in a table may do nothing that is in it."""
    rows: list[Row] = []
    users: list[str] = []
    operation = ""
    for line in text.partition("## The matrix")[2].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith(("| publish |", "| subscribe |")):
            operation, *users = cells
        elif line.startswith("| `"):
            granted = {user for user, cell in zip(users, cells[1:], strict=True) if cell}
            rows.append(Row(operation, cells[0].strip("`"), {user: user in granted for user in GRANTS}))
    return rows


SHOWN = matrix(PAGE.read_text())
ROWS = [
    *SHOWN,
    *(Row(operation, label, dict.fromkeys(GRANTS, False)) for operation in REFUSED for label in REFUSED[operation]),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("grants"), [CRIPPLED]) as found:
        yield found


async def states(server: Server) -> dict[str, tuple[dict[str, object], int, int]]:
    """Every stream's settings, last sequence, and number of messages."""
    async with server.connection("auditor", Health("test")) as auditor:
        infos = {stream: await api.stream_info(auditor, stream) for stream in subjects.streams(1)}
        return {name: (info.config, info.state.last_seq, info.state.messages) for name, info in infos.items()}


async def refusals(server: Server, user: str, rows: list[Row]) -> set[tuple[str, str]]:
    """Try all rows, and return what the server refuses: operations and subjects, in lower case."""
    errors: list[str] = []
    async with server.client(user, errors) as client:
        for row in rows:
            if row.operation == "publish":
                await client.publish(row.subject, b"")
            else:
                await client.subscribe(row.subject)
        await processed(client)
    found = {
        match.groups() for line in errors if (match := re.search(r'for (publish|subscription) to "([^"]+)"', line))
    }
    assert len(found) == len(errors)
    return {("publish" if operation == "publish" else "subscribe", subject) for operation, subject in found}


async def test_every_user_may_do_what_the_page_says_and_nothing_else(server: Server) -> None:
    before = await states(server)
    observed: dict[tuple[str, str, str], bool] = {}
    for allowed in (False, True):
        for user in GRANTS:
            rows = [row for row in ROWS if row.allowed[user] is allowed]
            refused = await refusals(server, user, rows)
            for row in rows:
                observed[user, row.operation, row.label] = (row.operation, row.subject.lower()) not in refused
        if not allowed:
            assert await states(server) == before
    for row in ROWS:
        line = " ".join(f"{user}:{'yes' if observed[user, row.operation, row.label] else 'no'}" for user in GRANTS)
        print(f"{row.operation:<9} {row.label:<50} {line}")  # noqa: T201 # shown if it fails, or with -s
    assert {
        (row.operation, row.label): {user: observed[user, row.operation, row.label] for user in GRANTS} for row in ROWS
    } == {(row.operation, row.label): row.allowed for row in ROWS}
    data = [
        row
        for row in ROWS
        if row.operation == "publish" and re.match(r"quotes|fills|positions|exposure\.|\$KV", row.label)
    ]
    stored = sum(row.allowed[user] for row in data for user in GRANTS)
    assert stored == 14

    async def added() -> int:
        """The server has received all messages, but may still be storing the last one."""
        after = await states(server)
        return sum(after[stream][1] - before[stream][1] for stream in before)

    assert await reaches(added, stored) == stored


def test_the_page_is_made_from_the_grants() -> None:
    """`PYTHONPATH=tests uv run python -m support.matrix` generates it."""
    assert PAGE.read_text() == made(PAGE.read_text())


def test_every_row_and_column_of_the_page_grants_something() -> None:
    for row in SHOWN:
        assert any(row.allowed.values()), row.label
    for table in re.findall(r"(?:^\|.*\n)+", PAGE.read_text().partition("## The matrix")[2], re.MULTILINE):
        rows = [line.strip("|").split("|") for line in table.splitlines()]
        assert all(any(cell.strip() == "yes" for cell in column) for column in list(zip(*rows, strict=True))[1:])


def test_the_page_leaves_out_nothing_that_is_granted() -> None:
    for grant in GRANTS.values():
        for operation, granted in (("publish", grant.publish), ("subscribe", grant.subscribe)):
            shown = [row.subject for row in ROWS if row.operation == operation and row.allowed[grant.user]]
            assert [pattern for pattern in granted if not any(matches(pattern, subject) for subject in shown)] == []


DATA = [
    "quotes.0.AAA",
    "fills.0.AAA",
    "positions.AAA",
    "exposure.decisions",
    "$KV.quotes.AAA",
    "$KV.reservations.x",
    "$KV.switches.x",
    "$KV.switches.loss.paused.AAA",
    "$KV.switches.loss.resumed.AAA",
    "$KV.instruments.x",
]


def test_nobody_may_delete_a_stream_and_only_the_operator_may_remove_keys() -> None:
    """Whatever the documentation says."""
    dangerous = [
        f"$JS.API.STREAM.{request}.{stream}"
        for stream in (*subjects.streams(4), "ANOTHER")
        for request in ("DELETE", "PURGE", "MSG.DELETE", "CREATE", "UPDATE", "RESTORE")
    ]
    for grant in grants(4):
        may = {subject for subject in [*dangerous, *DATA] if any(matches(own, subject) for own in grant.publish)}
        assert not {subject for subject in may if ".DELETE." in subject}
        if grant.user == "operator":
            assert may.intersection(DATA) == {"$KV.instruments.x", "$KV.switches.loss.resumed.AAA"}
            assert {subject for subject in may if ".PURGE." in subject} == {
                "$JS.API.STREAM.PURGE.KV_reservations",
                "$JS.API.STREAM.PURGE.KV_switches",
            }
        else:
            assert may <= set(DATA)
        assert ("$KV.switches.loss.paused.AAA" in may) == (grant.user == "ledger")
        if grant.user == "maker":
            assert may == {"$KV.switches.x"}
        if grant.user in ("ui", "observer", "auditor"):
            assert not may
    assert "loadgen" not in GRANTS


def test_readers_are_in_accounts_without_streams_and_their_requests_change_nothing() -> None:
    readers = {grant.user: grant for grant in grants(4) if grant.account != SERVICES_ACCOUNT}
    assert {user: grant.account for user, grant in readers.items()} == {"ui": "PAGE", "observer": "READERS"}
    requests = [export.subject for export in exports(4) if export.is_request]
    changing = ("CREATE", "UPDATE", "DELETE", "PURGE", "RESTORE", "SNAPSHOT", "PAUSE", "STEPDOWN", "REMOVE", "NEXT")
    for subject in requests:
        assert subject in ("rpc.exposure.usage", "$SRV.>") or subject.startswith("$JS.API."), subject
        assert not set(subject.split(".")).intersection(changing), subject
        assert not any(matches(subject, data) or matches(data, subject) for data in DATA), subject
    assert set(requests) <= {subject for grant in readers.values() for subject in grant.publish}


@pytest.mark.parametrize("account", READER_ACCOUNTS)
def test_everything_granted_to_a_reader_is_imported_once(account: str) -> None:
    """A request that matches two imports would be answered twice."""
    requests = [each.subject for each in imports(4, account) if each.is_request]
    messages = [each.subject for each in imports(4, account) if not each.is_request]
    for grant in [grant for grant in grants(4) if grant.account == account]:
        for subject in grant.publish:
            assert len([pattern for pattern in requests if matches(pattern, subject)]) == 1, subject
        for subject in grant.subscribe[1:]:
            assert len([pattern for pattern in messages if matches(pattern, subject)]) == 1, subject
    for each in imports(4, account):
        assert (
            len([of for of in exports(4) if of.is_request == each.is_request and matches(of.subject, each.subject)])
            == 1
        ), each


async def test_a_client_without_a_valid_key_is_refused(server: Server, tmp_path: Path) -> None:
    wrong = tmp_path / "exchange.seed"
    wrong.write_bytes(bytes(nkeys.encode_seed(bytes(32), nkeys.PREFIX_BYTE_USER)))
    for seed in (None, wrong):
        health = Health("test")
        connecting = asyncio.create_task(Connection(server.url, "exchange", health, seed).__aenter__())
        await eventually(lambda: "which asks for a key" in str(health.report()))  # noqa: B023 # it is awaited here
        assert not connecting.done()
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)


async def test_a_write_that_is_not_permitted_fails_at_once_and_is_reported(server: Server) -> None:
    health = Health("ui")
    before = connection.VIOLATIONS.labels("publish")._value.get()
    async with server.connection("ui", health) as ui:
        unknown: list[str] = []
        with pytest.raises(Refused, match=r"refused a publish to fills\.0\.aaa") as caught:
            await journal.append(
                ui,
                "MARKET-0",
                "fills.0.AAA",
                b"[]",
                msg_id="x",
                compare=Compare(0, "*.0.AAA"),
                on_unknown=unknown.append,
            )
        assert unknown == [], "it was not resent"
        assert caught.value.refusal is Refusal.UNAVAILABLE
        with pytest.raises(Refused, match="refused a publish") as caught:
            await journal.put(ui, "POSITIONS", "positions.AAA", b"{}")
        with pytest.raises(Refused) as caught:
            await rpc.call(ui, subjects.Rpc.RESERVE, UsageRequest(), Exposure, timeout=HANG)
        assert caught.value.refusal is Refusal.UNAVAILABLE
        assert [waiting.name for waiting in health.report().waiting_for] == ["permissions"]
        assert connection.VIOLATIONS.labels("publish")._value.get() == before + 3


async def test_a_follower_that_is_not_permitted_is_never_current_and_health_reports_why(server: Server) -> None:
    health = Health("maker")
    async with server.connection("maker", health) as maker:
        tail = Tail(maker, "KV_reservations", ["$KV.reservations.>"], FromSequence(1), name="maker")
        following = asyncio.create_task(anext(tail.batches()))
        await eventually(lambda: "$js.api.stream.info.kv_reservations" in str(health.report()))
        assert not tail.current
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_a_user_can_neither_receive_the_replies_of_another_nor_reply_in_its_place(server: Server) -> None:
    refused: list[str] = []
    async with server.connection("exposure", Health("exposure")) as exposure, server.client("maker", refused) as maker:
        await maker.subscribe("_INBOX.*.>")
        await maker.subscribe("rpc.exposure.*", queue="q")
        await processed(maker)
        assert len(refused) == 2
        assert (await exposure.request("$JS.API.STREAM.INFO.MARKET-0", b"", timeout=HANG)).data


async def test_a_service_replies_to_inboxes_only(server: Server) -> None:
    """A service may publish to subjects to which its callers may not."""
    refused: list[str] = []
    async with (
        server.connection("exposure", Health("exposure")) as exposure,
        server.client("exchange", refused) as exchange,
    ):
        serving = asyncio.create_task(ExposureStandIn().serve(exposure))
        ask = msgspec.json.encode(Deactivate(reservation_id="AAA-v0-a1-r", activation="x"))
        await eventually(lambda: _answered(exchange, subjects.Rpc.DEACTIVATE, ask))
        before = await states(server)
        await exchange.publish(subjects.Rpc.DEACTIVATE, ask, reply="$KV.reservations.x")
        assert await _answered(exchange, subjects.Rpc.DEACTIVATE, ask)  # by the same service, after the other one
        assert await states(server) == before
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def _answered(client: Client, subject: str, ask: bytes) -> bool:
    try:
        return bool((await client.request(subject, ask, timeout=HANG)).data)
    except nats.errors.NoRespondersError:
        return False


async def test_an_exchange_that_may_not_write_fills_reports_it_to_its_clients_and_its_operator(
    server: Server, tmp_path: Path
) -> None:
    """It keeps running, does what it may do, and works as soon as it is permitted."""
    shutil.copy(server.seed(CRIPPLED.user), tmp_path / "exchange.seed")
    health = Health("exchange", "market")
    exchange = Exchange(
        server.settings.market, Connection(server.url, "exchange", health, tmp_path / "exchange.seed"), health, utc_now
    )
    async with AsyncExitStack() as exits:
        exposure = await exits.enter_async_context(server.connection("exposure", Health("exposure")))
        tasks = [asyncio.create_task(ExposureStandIn().serve(exposure)), asyncio.create_task(exchange.run())]
        await eventually(lambda: health.ready)
        await quoted(exchange)
        for _ in range(2):
            with pytest.raises(Refused, match=r"refused a publish to fills\.0\.aaa; nothing was written") as caught:
                await exchange.order(order())
            assert caught.value.refusal is Refusal.UNAVAILABLE
        assert [waiting.name for waiting in health.report().waiting_for] == ["permissions"]
        assert exchange.quote("AAA").remaining_ask_quantity == 10
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
