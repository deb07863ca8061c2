"""What a command prints if no server answers."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from process.settings import Stack
from stack import clear, instruments, losses, watch
from stack.connect import Unreachable
from stack.ports import free_port
from stack.settings import StackSettings

COMMANDS: dict[str, Callable[[StackSettings], Awaitable[Any]]] = {
    "repair": clear.run,
    "watch": lambda settings: watch.run(settings, ">"),
    "market": instruments.diff,
    "resume": lambda settings: losses.resume(settings, []),
    "symbol": lambda settings: instruments.set_symbol(settings, "AAPL", ["quote_size=3"]),
}


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_server_that_does_not_answer_is_named_without_its_password(
    settings: StackSettings, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stack.connect.TIMEOUT", 0.2)
    port = free_port()
    elsewhere: Stack = replace(settings.stack, nats_url=f"nats://somebody:secret@127.0.0.1:{port}")
    with pytest.raises(Unreachable, match=f"no NATS server answers at nats://127.0.0.1:{port}") as caught:
        await COMMANDS[command](StackSettings(settings.market, elsewhere, settings.instances, settings.folder))
    assert "secret" not in str(caught.value)
