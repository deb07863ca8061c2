"""Whether a follower that begins with the last message of each subject was given all of them.

A NATS server passes over a last message that it cannot read, without a word, and does not give out the one before it
instead; a compare takes the subject for empty. But the server goes on counting the message. So it is known by its
subject: the broker tells every subject that it holds something of, and the follower is given something of each, unless
that went away meanwhile.
"""

from collections.abc import Sequence

from jet import api
from jet.connection import Connection
from jet.stream_integrity import REPAIR_HINT, TailBroken
from wire import subjects


class MissingSubjects:
    """The subjects of a stream of which a follower has yet to be given a message.

    Attributes:
        subjects: these; none before they were asked for.
    """

    def __init__(self, connection: Connection, stream: str, filters: Sequence[str]) -> None:
        self.subjects: set[str] = set()
        self._connection = connection
        self._stream = stream
        self._filters = filters

    async def ask(self, *, timeout: float) -> api.StreamInfo:
        """Ask anew which subjects there are. Returns what the stream is like, as of the last answer.

        Raises:
            ApiError, nats.errors.Error, TimeoutError: the broker does not tell.
        """
        found: set[str] = set()
        for pattern in self._filters:
            info = await api.stream_subjects(self._connection, self._stream, pattern, timeout=timeout)
            found.update(filter(is_asked_for, info.state.subjects))
        self.subjects = found
        return info

    async def withheld(self, reached: int, *, timeout: float) -> str:
        """What the broker does not give out of what is lacking, to a follower that was given everything up to
        `reached`; empty if nothing, or if it may come yet.

        Raises:
            TailBroken: the follower was not given what the broker gives out to others.
            ApiError, nats.errors.Error, TimeoutError: the broker does not tell.
        """
        for subject in sorted(self.subjects):
            last = await api.get_message(self._connection, self._stream, {"last_by_subj": subject}, timeout=timeout)
            if last is not None and last.seq > reached:
                return ""
            if last is not None:
                raise TailBroken(f"message {last.seq:,} of {self._stream} was not given out, and can be read")
            if await is_withheld(self._connection, self._stream, subject, timeout=timeout):
                return not_given_out(self._stream, subject)
            self.subjects.discard(subject)  # all of it went away meanwhile
        return ""


def is_asked_for(subject: str) -> bool:
    """Whether there may be anything of ours on a subject. The broker stores on some that nobody can ask it for."""
    return subjects.is_name(subjects.last_token(subject))


async def is_withheld(connection: Connection, stream: str, subject: str, *, timeout: float) -> bool:
    """Whether the broker holds something of a subject, and does not give out the last message.

    Raises:
        ApiError, nats.errors.Error, TimeoutError: the broker does not tell.
    """
    info = await api.stream_subjects(connection, stream, subject, timeout=timeout)
    if subject not in info.state.subjects:
        return False
    return await api.get_message(connection, stream, {"last_by_subj": subject}, timeout=timeout) is None


def not_given_out(stream: str, subject: str) -> str:
    """What to tell of a subject whose last message is not given out."""
    return f"the last message of {subject} is not given out: the store of {stream} is damaged; {REPAIR_HINT}"
