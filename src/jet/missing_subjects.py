"""Checks that a follower that begins with the last message of each subject has received all of them.

If a NATS server cannot read the last message of a subject, it skips the message without an error, and does not deliver
the one before it instead; a compare takes the subject for empty. But the server still counts the message. So damage
shows by subject: the broker lists every subject that has messages, and the follower must receive a message of each,
unless they were all deleted meanwhile.
"""

from collections.abc import Sequence

from jet import api
from jet.connection import Connection
from jet.stream_integrity import REPAIR_HINT, TailBroken
from wire import subjects


class MissingSubjects:
    """The subjects of a stream of which a follower has not received a message yet.

    Attributes:
        subjects: these subjects; empty before the first `fetch`. The follower removes those it has received.
    """

    def __init__(self, connection: Connection, stream: str, filters: Sequence[str]) -> None:
        self.subjects: set[str] = set()
        self._connection = connection
        self._stream = stream
        self._filters = filters

    async def fetch(self, *, timeout: float) -> api.StreamInfo:
        """Fetch the list of subjects again. Return the state of the stream in the last reply.

        Raises:
            ApiError, nats.errors.Error, TimeoutError: the broker does not answer.
        """
        found: set[str] = set()
        for pattern in self._filters:
            info = await api.stream_subjects(self._connection, self._stream, pattern, timeout=timeout)
            found.update(filter(is_ours, info.state.subjects))
        self.subjects = found
        return info

    async def describe_withheld(self, reached: int, *, timeout: float) -> str:
        """Describe a message that the broker does not deliver to a follower that has reached the sequence `reached`.

        Empty if nothing is missing, or if it may still come. Subjects whose messages were all deleted are removed.

        Raises:
            TailBroken: the follower did not receive a message that the broker can read.
            ApiError, nats.errors.Error, TimeoutError: the broker does not answer.
        """
        for subject in sorted(self.subjects):
            last = await api.get_message(self._connection, self._stream, {"last_by_subj": subject}, timeout=timeout)
            if last is not None and last.seq > reached:
                return ""
            if last is not None:
                raise TailBroken(f"message {last.seq:,} of {self._stream} was not delivered, although it can be read")
            if await is_withheld(self._connection, self._stream, subject, timeout=timeout):
                return describe_withheld_last(self._stream, subject)
            self.subjects.discard(subject)  # all its messages were deleted meanwhile
        return ""


def is_ours(subject: str) -> bool:
    """True if we may have written to a subject. The broker also stores messages on subjects that we cannot name."""
    return subjects.is_name(subjects.last_token(subject))


async def is_withheld(connection: Connection, stream: str, subject: str, *, timeout: float) -> bool:
    """True if the broker holds messages of a subject, but does not return the last one.

    Raises:
        ApiError, nats.errors.Error, TimeoutError: the broker does not answer.
    """
    info = await api.stream_subjects(connection, stream, subject, timeout=timeout)
    if subject not in info.state.subjects:
        return False
    return await api.get_message(connection, stream, {"last_by_subj": subject}, timeout=timeout) is None


def describe_withheld_last(stream: str, subject: str) -> str:
    """Describe the damage of a subject whose last message is not delivered."""
    return f"the last message of {subject} is not delivered: the store of {stream} is damaged; {REPAIR_HINT}"
