"""One flight for each request: copies of a request that arrive while it is being answered wait for that answer.

Callers send a request again when no answer comes, so a server meets copies of it: at once, late, or after its answer.

- While the first is being answered, the same bytes on the same subject join it, whoever asks: they are one request.
- After that, the answer is repeated to the very call that it was given to, which a copy shows by its reply inbox. So it
  is safe for every request: it was the answer while that call was waiting. Other calls are decided anew.
- An answer that says "ask again" is not repeated.

Pure: `at` is a time in seconds by a clock that is never set.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

REPEATED = 3.0
"""Seconds for which an answer is repeated to its caller: longer than a caller waits."""

MOST = 2_000
"""Answers that are kept; the oldest are forgotten first."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a caller is answered. `refusal`: its status and slug. `final`: asking again would not change it."""

    data: bytes
    refusal: tuple[int, str] | None = None
    final: bool = True


@dataclass(slots=True)
class Flight:
    """A request that is being answered, and the inboxes of those who wait for it, each once: true if its answer may go
    with others in one message."""

    subject: str
    data: bytes
    replies: dict[str, bool] = field(default_factory=dict)


class SingleFlight:
    """The requests that one server answers now, and the answers that it has just given."""

    def __init__(self) -> None:
        self._under_way: dict[tuple[str, bytes], Flight] = {}
        self._given: dict[tuple[str, str, bytes], tuple[float, Answer]] = {}

    def join(
        self, subject: str, data: bytes, reply: str, at: float, *, in_pack: bool = False
    ) -> Flight | Answer | None:
        """A request has arrived: the flight to begin; the answer that its caller was given; None: it waits for one."""
        given = self._given.get(_call(subject, data, reply))
        if given is not None and at < given[0]:
            return given[1]
        flight = self._under_way.get((subject, data))
        if flight is not None:
            flight.replies[reply] = in_pack
            return None
        flight = self._under_way[subject, data] = Flight(subject, data, {reply: in_pack})
        return flight

    def complete(self, flight: Flight, answer: Answer, at: float) -> Mapping[str, bool]:
        """The flight is over: whom to answer. What arrives from now on is another request."""
        del self._under_way[flight.subject, flight.data]
        if answer.final:
            for reply in flight.replies:
                self._given[_call(flight.subject, flight.data, reply)] = (at + REPEATED, answer)
            self._forget(at)
        return flight.replies

    def _forget(self, at: float) -> None:
        while self._given:
            oldest = next(iter(self._given))
            if len(self._given) <= MOST and at < self._given[oldest][0]:
                return
            del self._given[oldest]


def _call(subject: str, data: bytes, reply: str) -> tuple[str, str, bytes]:
    return (reply, subject, hashlib.blake2b(data, digest_size=16).digest())
