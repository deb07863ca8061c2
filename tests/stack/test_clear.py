"""`./qs repair` of a stack that is up removes the unreadable keys, and nothing else."""

from collections.abc import Iterator

import msgspec
import pytest

from jet import api, journal
from jet.connection import Connection
from jet.journal import Compare
from jet.switch_log import KEY
from stack import clear
from support.broker import flushed
from support.builders import NOW
from support.secured import Server, processed, serving
from wire import subjects
from wire.switches import QuotingSwitch


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("clear")) as found:
        yield found


async def held(connection: Connection, bucket: str) -> int:
    return (await api.stream_info(connection, subjects.bucket_stream(bucket))).state.messages


async def turned(maker: Connection) -> None:
    head = await journal.last_sequence(maker, "KV_switches", KEY)
    value = msgspec.json.encode(QuotingSwitch(paused=True, at=NOW))
    await journal.append(maker, "KV_switches", KEY, value, msg_id=f"turn-{head}", compare=Compare(head, KEY))


async def test_unreadable_keys_are_removed_and_others_are_kept(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    async with server.connection("maker") as maker, server.connection("auditor") as auditor:
        await maker.client.publish(KEY, b"")
        async with server.client("maker", []) as thief:
            for subject in (KEY, "$KV.reservations.x", "$KV.reservations.y"):
                await thief.publish("$JS.API.STREAM.INFO.MARKET-0", b"", reply=subject)
            await processed(thief)
            await thief.request("$JS.API.STREAM.INFO.POSITIONS", b"")
        assert await clear.run(server.settings) == 0
        output = capsys.readouterr().out
        for key in (KEY, "$KV.reservations.x", "$KV.reservations.y"):
            assert f"{key} was unreadable, and is removed" in output
        assert (await held(auditor, "switches"), await held(auditor, "reservations")) == (0, 0)

        await turned(maker)
        await maker.client.publish(KEY, b"no turn")
        await flushed(maker.client)
        assert await clear.run(server.settings) == 0
        assert "every key is readable" in capsys.readouterr().out
        assert await held(auditor, "switches") == 2, "the turn before it is kept"
