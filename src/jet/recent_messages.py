"""The newest messages of some subjects, read once: not followed."""

from datetime import datetime, timedelta

from jet.connection import Connection
from jet.consumer import BATCH
from jet.reader import Answers
from jet.tail import Message

SHORTEST = timedelta(seconds=1)
"""A time that is not halved again: what came in it is read, as far as `most` allows, from its beginning."""


async def newest(
    connection: Connection, stream: str, filter_: str, now: datetime, since: datetime, most: int
) -> tuple[list[Message], datetime]:
    """What was stored since a time on the subjects that a filter names, in the order of the log.

    Where that is more than `most`, it begins later: the time is halved until it is not. A message that cannot be read
    is left out.

    Returns:
        the messages, and since when they are all there are.

    Raises:
        nats.errors.Error, TimeoutError: the broker did not answer, or not whole.
    """
    answers = Answers(connection, stream)
    try:
        while True:
            begin: dict[str, object] = {"start_time": since.isoformat(), "next_by_subj": filter_}
            answered, more = await answers.ask({**begin, "batch": 1})
            if len(answered) + more <= most or now - since <= SHORTEST:
                break
            since = now - (now - since) / 2
        found: list[Message] = []
        query = begin
        while answered and len(found) < most:
            answered, more = await answers.ask({**query, "batch": min(BATCH, most - len(found))})
            read = [message for message in answered if message is not None]
            found += read
            if not more or not read:
                break
            query = {"seq": read[-1].sequence + 1, "next_by_subj": filter_}
        return found, since
    finally:
        await answers.close()
