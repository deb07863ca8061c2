"""What all messages have in common."""

import msgspec
import pytest

from support.builders import order, quote_request, recorded_fill
from wire import orders, positions, processes, quotes, reservations, switches
from wire.fields import Message

DEFINED = (orders, positions, processes, quotes, reservations, switches)
"""The modules that define messages, imported so that `Message` has all of its subclasses."""


def every_message(kind: type[Message] = Message) -> list[type[Message]]:
    return [kind, *(found for sub in kind.__subclasses__() for found in every_message(sub))]


@pytest.mark.parametrize("kind", every_message())
def test_every_message_is_frozen_and_refuses_unknown_fields(kind: type[Message]) -> None:
    config = kind.__struct_config__
    assert config.frozen
    assert config.forbid_unknown_fields


@pytest.mark.parametrize("message", [order(), recorded_fill(), quote_request()])
def test_a_message_survives_encoding_and_decoding(message: Message) -> None:
    assert msgspec.json.decode(msgspec.json.encode(message), type=type(message)) == message
