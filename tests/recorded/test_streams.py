"""Reading streams of a broker."""

import pytest

from recorded import streams
from recorded.streams import CannotRead
from support.broker import free_port


async def test_a_server_that_does_not_answer_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "CONNECT_TIMEOUT", 0.3)
    with pytest.raises(CannotRead, match="no NATS server answers at"):
        async with streams.connect(f"nats://127.0.0.1:{free_port()}"):
            raise AssertionError("there is none")
