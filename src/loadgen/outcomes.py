"""The result of one attempt to send an order, and the outcome of the order after all attempts. Pure.

The result of an attempt is

    Known        the exchange decided: 200, or a refusal (4xx) that is final
    Unknown      the order may have executed: a 5xx, a timeout, a dropped connection, an unreadable response
    Undelivered  no connection was made, so this attempt executed nothing
"""

import math

import msgspec

from wire.errors import Problem, Refusal
from wire.orders import OrderResult

UNANSWERED = ("unknown", "undelivered")
"""The outcomes of orders without a decision."""

_NOTHING_DONE = (Refusal.OVERLOADED.slug, Refusal.UNAVAILABLE.slug)

_decode_result = msgspec.json.Decoder(OrderResult).decode
_decode_problem = msgspec.json.Decoder(Problem).decode


class Known(msgspec.Struct, frozen=True):
    """The exchange decided. `result` is None for a refusal."""

    status: int
    body: bytes
    result: OrderResult | None

    @property
    def rejected(self) -> bool:
        """True if the order found nothing to execute against."""
        return self.result is not None and self.result.status == "rejected"


class Unknown(msgspec.Struct, frozen=True):
    """The order may or may not have executed.

    Attributes:
        reason: why there is no decision, for people.
        status: the HTTP status, if there was a response.
        body: the body of the response.
        retry_after: how long the exchange asked to wait, in seconds.
        in_doubt: False if the exchange stated that this attempt did nothing; otherwise it may still execute.
    """

    reason: str
    status: int | None = None
    body: bytes = b""
    retry_after: float | None = None
    in_doubt: bool = True


class Undelivered(msgspec.Struct, frozen=True):
    """The order was not sent."""

    reason: str


AttemptResult = Known | Unknown | Undelivered


class Outcome(msgspec.Struct, frozen=True):
    """The outcome of an order after all its attempts.

    Attributes:
        name: `filled`, `partially_filled`, `rejected.<reason>`, `refused.<problem>`, or one of `UNANSWERED`.
        filled: how many lots executed.
        attempts: how often it was sent.
    """

    name: str
    filled: int
    attempts: int


def classify(status: int, body: bytes, retry_after: str | None, order_id: str) -> AttemptResult:
    """Return what an HTTP response means for the order `order_id`."""
    if status == 200:
        try:
            result = _decode_result(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return Unknown(f"unreadable response: {error}", status, body)
        if result.order_id != order_id:
            return Unknown(f"response to another order: {result.order_id}", status, body)
        return Known(status, body, result)
    if status >= 500:
        problem = _problem(status, body)
        in_doubt = problem not in _NOTHING_DONE
        return Unknown(f"answered {status}: {problem}", status, body, _seconds(retry_after), in_doubt)
    return Known(status, body, None)


def order_outcome(answer: Known, attempts: int) -> Outcome:
    """Return the outcome of an order whose last attempt had the result `answer`."""
    result = answer.result
    if result is None:
        return Outcome(f"refused.{_problem(answer.status, answer.body)}", 0, attempts)
    name = f"rejected.{result.reason}" if result.status == "rejected" else result.status
    return Outcome(name, result.filled_quantity, attempts)


def _problem(status: int, body: bytes) -> str:
    """Return the short name of a problem, or its status if it has none."""
    try:
        kind = _decode_problem(body).type
    except (msgspec.DecodeError, UnicodeDecodeError):
        return str(status)
    return kind.removeprefix("urn:quotestream:") if kind != "about:blank" else str(status)


def _seconds(retry_after: str | None) -> float | None:
    """Return a `Retry-After` in seconds; None for a date, which the exchange never sends."""
    try:
        seconds = float(retry_after or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
