"""The log of the kill switch, for all its readers: a key of the bucket `switches`, and which of its messages count."""

from dataclasses import dataclass
from datetime import datetime

import msgspec

from jet import journal
from jet.tail import Message
from wire import subjects
from wire.fields import DECODE_ERRORS
from wire.switches import QuotingSwitch

STREAM = subjects.bucket_stream(subjects.SWITCHES_BUCKET)
KEY = subjects.bucket_key(subjects.SWITCHES_BUCKET, "quoting")

_decoder = msgspec.json.Decoder(QuotingSwitch)


@dataclass(frozen=True, slots=True)
class SwitchChange:
    """A change of the switch, appended at `sequence`. `by` is empty if it is not known who asked for it."""

    sequence: int
    paused: bool
    at: datetime
    by: str


def change_of(message: Message) -> SwitchChange | None:
    """Decode a change of the switch; None if the message is not one, or none of our writers appended it."""
    if not journal.is_append(message.headers):
        return None
    try:
        value = _decoder.decode(message.data)
    except DECODE_ERRORS:
        return None
    return SwitchChange(message.sequence, value.paused, value.at, (message.headers or {}).get(journal.ASKED_BY, ""))


def is_change(message: Message) -> bool:
    """True if a message is a change of the switch."""
    return change_of(message) is not None
