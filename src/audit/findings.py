"""The results of an audit: the contradictions, with their places, and a verdict on each invariant."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from recorded.replay import Place

KEPT = 20
"""Findings that a verdict contains; further ones are only counted."""


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that contradicts an invariant.

    Attributes:
        source: the stream, database or file that contains it.
        sequence: its stream sequence, or its line in a file; 0 if it has neither.
        subject: its subject, if it is a message.
        ids: the ids that identify it: `quote_id`, `fill_id`, `order_id`, …
        detail: a description for people.
    """

    source: str
    sequence: int = 0
    subject: str = ""
    ids: dict[str, str] = {}
    detail: str


class Status(StrEnum):
    """The result of checking an invariant."""

    PROVED = "proved"
    REFUTED = "refuted"
    NOT_CHECKABLE = "not checkable"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on one invariant.

    Attributes:
        code: I1, I2, …
        statement: the invariant, in a sentence.
        status: proved, for everything that `checked` names; refuted; or not checkable.
        checked: a description of the data that was checked.
        remarks: what the status does not cover, and why, and other notes for a reader.
        findings: the first contradictions.
        contradictions: the number of all contradictions.
    """

    code: str
    statement: str
    status: Status
    checked: str
    remarks: list[str]
    findings: list[Finding]
    contradictions: int


class Findings:
    """Collects the contradictions of one invariant."""

    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.count = 0

    def at(self, place: Place, detail: str, **ids: str) -> None:
        """Add a contradiction in a message of the market log."""
        self.count += 1
        if len(self.kept) < KEPT:
            self.kept.append(
                Finding(source=place.stream, sequence=place.sequence, subject=place.subject, ids=ids, detail=detail)
            )

    def elsewhere(
        self, source: str, detail: str, *, sequence: int = 0, subject: str = "", ids: Mapping[str, str] = {}
    ) -> None:
        """Add a contradiction elsewhere: in a row, a line of a file, or a message of another stream."""
        self.count += 1
        if len(self.kept) < KEPT:
            self.kept.append(Finding(source=source, sequence=sequence, subject=subject, ids=dict(ids), detail=detail))
