"""Copies of a request: which join the first, which get its answer again, and which are decided anew."""

import pytest

from jet import single_flight
from jet.single_flight import Answer, Flight, SingleFlight

DONE = Answer(b"done")
RETRY = Answer(b"again", (503, "unavailable"), final=False)


def begin(of: SingleFlight, subject: str = "s", data: bytes = b"d", reply: str = "a", at: float = 0.0) -> Flight:
    """Begin a flight with this request."""
    flight = of.join(subject, data, reply, at)
    assert isinstance(flight, Flight)
    return flight


@pytest.mark.parametrize(
    ("subject", "data", "reply", "joins"),
    [("s", b"d", "a", True), ("s", b"d", "b", True), ("t", b"d", "a", False), ("s", b"e", "a", False)],
    ids=["a copy", "the same asked by another", "another subject", "another request"],
)
def test_the_same_bytes_on_the_same_subject_join_a_flight(subject: str, data: bytes, reply: str, joins: bool) -> None:
    flights = SingleFlight()
    flight = begin(flights)
    assert (flights.join(subject, data, reply, 1.0) is None) is joins
    assert list(flights.complete(flight, DONE, 2.0)) == (["a", reply] if joins and reply != "a" else ["a"])


@pytest.mark.parametrize(
    ("answer", "reply", "after", "repeated"),
    [
        (DONE, "a", 0.1, True),
        (DONE, "a", single_flight.REPEAT_SECONDS + 0.1, False),
        (DONE, "b", 0.1, False),
        (RETRY, "a", 0.1, False),
        (Answer(b"no", (409, "stale-quote")), "a", 0.1, True),
    ],
    ids=["its caller", "its caller, late", "another caller", "ask again", "a refusal"],
)
def test_an_answer_is_repeated_only_to_the_call_that_got_it(
    answer: Answer, reply: str, after: float, repeated: bool
) -> None:
    given = SingleFlight()
    given.complete(begin(given), answer, 1.0)
    again = given.join("s", b"d", reply, 1.0 + after)
    assert again is answer if repeated else isinstance(again, Flight)


def test_a_request_after_the_end_of_a_flight_begins_a_new_one() -> None:
    one = SingleFlight()
    first = begin(one)
    one.complete(first, RETRY, 1.0)
    second = begin(one)
    assert second is not first
    assert list(one.complete(second, DONE, 2.0)) == ["a"]


def test_the_number_of_kept_answers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single_flight, "MAX_KEPT", 2)
    kept = SingleFlight()
    for reply in ("a", "b", "c"):
        kept.complete(begin(kept, reply=reply), DONE, 0.0)
    assert [kept.join("s", b"d", reply, 0.1) is DONE for reply in ("c", "b", "a")] == [True, True, False]
