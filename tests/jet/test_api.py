"""Replies of the JetStream API that are not valid."""

import pytest
from nats.aio.msg import Msg

from jet import api, journal
from jet.journal import Appended, Compare
from support.broker import Broker
from support.waiting import HANG, reaches
from wire import subjects

STREAM = subjects.market_stream(0)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[]", b"7", b'{"config":1}', b"[" * 100_000])
async def test_an_invalid_reply_counts_as_no_reply(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    """So every caller continues as if there were no reply, and no process ends."""
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


@pytest.mark.parametrize(
    "answer",
    [
        b'{"seq":1}',
        b'{"stream":"POSITIONS","seq":9}',
        b'{"stream":"MARKET-0","domain":"elsewhere","seq":9}',
        b'{"stream":"MARKET-0","seq":0}',
        b'{"stream":"MARKET-0","seq":-1}',
        b'{"stream":"MARKET-0","seq":1}',
        b'{"type":"io.nats.jetstream.api.v1.stream_info_response","config":{},"state":{"last_seq":7}}',
    ],
)
async def test_an_acknowledgement_of_another_message_is_ignored(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    """The outcome of the append is then read from the log, whatever somebody sent to its reply subject."""
    subject, filter_ = subjects.quotes(0, "AAA"), subjects.market_head(0, "AAA")
    first = await journal.append(broker.connection, STREAM, subject, b"{}", msg_id="first", compare=Compare(0, filter_))
    assert first == Appended(1)
    ask = broker.connection.request
    before = api.INVALID_REPLY._value.get()
    wrong = 0

    async def answered(asked: str, *arguments: object, **more: object) -> Msg:
        nonlocal wrong
        message = await ask(asked, *arguments, **more)  # type: ignore[arg-type] # passed on as they came
        if asked == subject and not wrong:
            wrong += 1
            return Msg(broker.connection.client, data=answer)
        return message

    monkeypatch.setattr(broker.connection, "request", answered)
    found = await journal.append(
        broker.connection, STREAM, subject, b"{}", msg_id="second", compare=Compare(1, filter_)
    )
    assert found == Appended(2)
    assert api.INVALID_REPLY._value.get() == before + 1


async def test_reply_subjects_cannot_be_guessed(broker: Broker) -> None:
    """Nobody can derive the next reply subject from earlier ones."""
    places: list[str] = []
    await broker.connection.subscribe("asked", lambda message: places.append(message.reply))
    await broker.connection.client.flush(int(HANG))
    async with broker.connect() as asking:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asking.request("asked", b"", timeout=0.1)
    await reaches(lambda: len(places), 3)
    tokens = [place.rpartition(".")[2] for place in places]
    assert len(set(tokens)) == 3
    assert all(len(token) == 22 and not token.isdigit() for token in tokens)
