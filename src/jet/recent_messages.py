"""Reads the newest messages of some subjects once, without following them."""

from datetime import datetime, timedelta

from jet.connection import Connection
from jet.consumer import BATCH
from jet.reader import DirectGet
from jet.tail import Message

SHORTEST = timedelta(seconds=1)
"""A period this short is not halved again; its messages are read from its beginning, at most `most` of them."""


async def newest(
    connection: Connection, stream: str, filter_: str, now: datetime, since: datetime, most: int
) -> tuple[list[Message], datetime]:
    """Read the messages that were stored since a time, on the subjects of a filter, in the order of the log.

    If there are more than `most`, the period is halved until there are not. A message that cannot be read is left out.

    Returns:
        the messages, and the time since when they are complete.

    Raises:
        nats.errors.Error, TimeoutError: the broker did not answer, or not completely.
    """
    direct_get = DirectGet(connection, stream)
    try:
        while True:
            begin: dict[str, object] = {"start_time": since.isoformat(), "next_by_subj": filter_}
            received, more = await direct_get.fetch({**begin, "batch": 1})
            if len(received) + more <= most or now - since <= SHORTEST:
                break
            since = now - (now - since) / 2
        found: list[Message] = []
        query = begin
        while received and len(found) < most:
            received, more = await direct_get.fetch({**query, "batch": min(BATCH, most - len(found))})
            read = [message for message in received if message is not None]
            found += read
            if not more or not read:
                break
            query = {"seq": read[-1].sequence + 1, "next_by_subj": filter_}
        return found, since
    finally:
        await direct_get.close()
