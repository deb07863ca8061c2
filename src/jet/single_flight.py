"""Answers copies of a request once: copies that arrive while the request is being answered wait for the same reply.

Callers resend a request until a reply comes, so a server receives copies of it: at once, late, or after its reply.

- While a request is being answered, the same bytes on the same subject join it, whoever sent them.
- Afterwards, the reply is repeated only to the call that it was given to, which a copy shows by its reply subject. That
  is safe for every request, because the reply was correct while that call was waiting. Requests of other calls are
  decided anew.
- A reply that asks the caller to try again is not repeated.

Pure: `at` is a time in seconds on a clock that is never set.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

REPEAT_SECONDS = 3.0
"""Seconds for which a reply is repeated to its caller: longer than a caller waits."""

MAX_KEPT = 2_000
"""The most replies that are kept; the oldest are forgotten first."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply to a request.

    Attributes:
        data: its JSON.
        refusal: its status and slug, if it is a refusal.
        final: False if the same request may get another answer later.
    """

    data: bytes
    refusal: tuple[int, str] | None = None
    final: bool = True


@dataclass(slots=True)
class Flight:
    """A request that is being answered.

    Attributes:
        subject: the subject of the request.
        data: its payload.
        replies: the reply subjects of the waiting callers; True if the reply may travel in a pack.
    """

    subject: str
    data: bytes
    replies: dict[str, bool] = field(default_factory=dict)


class SingleFlight:
    """The requests that one server is answering, and its recent replies."""

    def __init__(self) -> None:
        self._in_flight: dict[tuple[str, bytes], Flight] = {}
        self._recent: dict[tuple[str, str, bytes], tuple[float, Answer]] = {}

    def join(
        self, subject: str, data: bytes, reply: str, at: float, *, in_pack: bool = False
    ) -> Flight | Answer | None:
        """Take a request that has arrived.

        Returns:
            the new flight, which the caller must answer; the answer that this call already got; or None if the request
            joined a flight and waits for its answer.
        """
        recent = self._recent.get(_call(subject, data, reply))
        if recent is not None and at < recent[0]:
            return recent[1]
        flight = self._in_flight.get((subject, data))
        if flight is not None:
            flight.replies[reply] = in_pack
            return None
        flight = self._in_flight[subject, data] = Flight(subject, data, {reply: in_pack})
        return flight

    def complete(self, flight: Flight, answer: Answer, at: float) -> Mapping[str, bool]:
        """End a flight. Return the reply subjects to answer. A copy that arrives later is a new request."""
        del self._in_flight[flight.subject, flight.data]
        if answer.final:
            for reply in flight.replies:
                self._recent[_call(flight.subject, flight.data, reply)] = (at + REPEAT_SECONDS, answer)
            self._forget(at)
        return flight.replies

    def _forget(self, at: float) -> None:
        while self._recent:
            oldest = next(iter(self._recent))
            if len(self._recent) <= MAX_KEPT and at < self._recent[oldest][0]:
                return
            del self._recent[oldest]


def _call(subject: str, data: bytes, reply: str) -> tuple[str, str, bytes]:
    return (reply, subject, hashlib.blake2b(data, digest_size=16).digest())
