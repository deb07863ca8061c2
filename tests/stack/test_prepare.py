"""`prepare` reports what stops it in one sentence, with an exit code."""

from collections.abc import Iterator

import pytest

from jet.connection import NotConnected
from stack import prepare
from support.secured import Server, serving


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("prepare")) as found:
        yield found


async def test_a_lost_connection_is_reported_and_the_next_run_succeeds(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: object) -> str:
        raise NotConnected("not connected to nats://127.0.0.1:4222")

    with monkeypatch.context() as patch:
        patch.setattr("stack.revisions.older_bucket", lost)
        assert await prepare.run(server.settings) == 1
    assert "the connection to NATS was lost: not connected to" in capsys.readouterr().out
    assert await prepare.run(server.settings) == 0
