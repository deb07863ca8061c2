"""All reasons for which a request may be refused, and the exception that carries a refusal with its facts."""

from enum import Enum
from typing import Self

import msgspec


class Refusal(Enum):
    """Why a request was refused: slug, HTTP status, title. Ordered from "the request is wrong" to "send it again"."""

    BAD_REQUEST = ("bad-request", 400, "The request cannot be read")
    INVALID_FIELD = ("invalid-field", 400, "A field has an invalid value")
    FOREIGN_HOST = ("foreign-host", 421, "The service does not have that name")
    CROSS_SITE = ("cross-site", 403, "The request comes from a page of another site")
    FORM_BODY = ("form-body", 415, "The body has a type that forms send, not JSON")
    UNAUTHENTICATED = ("unauthenticated", 401, "The request has no valid token")
    FORBIDDEN = ("forbidden", 403, "The token does not permit this")
    UNKNOWN_SYMBOL = ("unknown-symbol", 404, "The symbol is not traded here")
    NOT_FOUND = ("not-found", 404, "There is no such object")
    NEVER_QUOTED = ("never-quoted", 404, "The symbol was never quoted")
    QUOTE_EXPIRED = ("quote-expired", 404, "The last quote has expired")
    QUOTE_WITHDRAWN = ("quote-withdrawn", 404, "The last quote was withdrawn")
    TOO_LARGE = ("body-too-large", 413, "The body is too large")
    ORDER_ID_REUSED = ("order-id-reused", 409, "That order id was used with other content")
    STALE_QUOTE = ("stale-quote", 409, "A newer quote, or a newer attempt, was already active")
    POSITION_UNKNOWN = ("position-unknown", 409, "The quote is made from a position that no fill has led to")
    REVISION_UNKNOWN = ("revision-unknown", 409, "The quote is made from a revision that the instrument does not have")
    NOT_QUOTED = ("not-quoted", 409, "The instrument's state allows no such quote")
    ATTEMPT_TOO_FAR = ("attempt-too-far", 409, "The quote's attempt is too far beyond the latest one")
    QUOTE_ID_REUSED = ("quote-id-reused", 409, "That quote id was used with other content")
    RESERVATION_NOT_ACTIVE = ("reservation-not-active", 409, "The quote's reservation is not active")
    MORE_THAN_RESERVED = ("more-than-reserved", 409, "The quote asks for more than was reserved")
    RESERVATION_ACTIVATED = ("reservation-activated", 409, "The reservation backs a quote: withdraw the quote instead")
    FILL_CONTRADICTS = ("fill-contradicts", 409, "The fill contradicts what is recorded")
    FILL_NOT_RECORDED = ("fill-not-recorded", 409, "No such fill is recorded on the reservation's quote")
    REVISION_CHANGED = ("revision-changed", 412, "The instrument is of another revision than was expected")
    NEWER_PAUSE = ("newer-pause", 409, "Makers were paused again before they resumed")
    SUPERSEDED = ("superseded", 409, "The same maker has sent a newer request for the symbol")
    TOO_OFTEN = ("too-many-requests", 429, "The token exceeds its rate")
    OVERLOADED = ("overloaded", 503, "Too much is waiting")
    UNAVAILABLE = ("unavailable", 503, "The service cannot decide now")
    OUTCOME_UNKNOWN = ("outcome-unknown", 503, "The outcome is not known yet: send the same id again")

    def __init__(self, slug: str, status: int, title: str) -> None:
        self.slug = slug
        self.status = status
        self.title = title

    @property
    def retryable(self) -> bool:
        """True if the identical request may succeed later."""
        return self.status in (429, 503)

    @classmethod
    def from_slug(cls, slug: str) -> Self:
        """Return the refusal with this slug.

        Raises:
            KeyError: no refusal has it.
        """
        return _BY_SLUG[slug]


_BY_SLUG = {refusal.slug: refusal for refusal in Refusal}


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An RFC 9457 problem detail. `field` names the invalid field, if there is one."""

    type: str
    title: str
    status: int
    detail: str = ""
    field: str | None = None


class Refused(Exception):  # noqa: N818 # a refusal is an answer, not an error
    """A request was refused, and changed nothing.

    Attributes:
        refusal: the reason.
        detail: the facts, for people.
        field: the invalid field, if there is one.
        retry_after: after how many whole seconds to send the request again; set for every retryable refusal.
    """

    def __init__(
        self, refusal: Refusal, detail: str = "", *, field: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(f"{refusal.slug}: {detail}")
        self.refusal = refusal
        self.detail = detail
        self.field = field
        self.retry_after = retry_after if retry_after is not None else (1 if refusal.retryable else None)

    @property
    def problem(self) -> Problem:
        """The problem detail to send to the client."""
        return Problem(
            type=f"urn:quotestream:{self.refusal.slug}",
            title=self.refusal.title,
            status=self.refusal.status,
            detail=self.detail,
            field=self.field,
        )

    @classmethod
    def from_problem(cls, problem: Problem) -> Self:
        """Return the refusal that a problem detail from another service describes."""
        return cls(
            Refusal.from_slug(problem.type.removeprefix("urn:quotestream:")), problem.detail, field=problem.field
        )
