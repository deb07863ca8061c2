"""Answers of the JetStream API that are none."""

import pytest
from nats.aio.msg import Msg

from jet import api, journal
from jet.journal import Appended, Compare
from support.broker import Broker
from wire import subjects

STREAM = subjects.market_stream(0)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[]", b"7", b'{"config":1}', b"[" * 100_000])
async def test_an_answer_that_cannot_be_read_is_like_none(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    """So everyone who asks goes on as when nobody answers, and no process ends."""
    ask = broker.connection.request
    garbled = 0

    async def answered(*arguments: object, **more: object) -> Msg:
        nonlocal garbled
        message = await ask(*arguments, **more)  # type: ignore[arg-type] # passed on as they came
        if not garbled:
            garbled += 1
            return Msg(broker.connection.client, data=data)
        return message

    monkeypatch.setattr(broker.connection, "request", answered)
    with pytest.raises(api.NO_REPLY):
        await api.stream_info(broker.connection, STREAM)
    garbled = 0
    subject, compare = subjects.quotes(0, "AAA"), Compare(0, subjects.market_head(0, "AAA"))
    found = await journal.append(broker.connection, STREAM, subject, b"{}", msg_id="one", compare=compare)
    assert isinstance(found, Appended)
