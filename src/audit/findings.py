"""What an audit says: what is wrong, and where, and a verdict on each invariant."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from recorded.replay import Place

KEPT = 20
"""Findings that a verdict tells in full; more are only counted."""


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that contradicts an invariant.

    Attributes:
        source: the stream, database or file that holds it.
        sequence: its stream sequence, or its line in a file; 0 if it has none.
        subject: its subject, if it is a message.
        ids: whatever names it: `quote_id`, `fill_id`, `order_id`, …
        detail: what is wrong, for a person.
    """

    source: str
    sequence: int = 0
    subject: str = ""
    ids: dict[str, str] = {}
    detail: str


class Status(StrEnum):
    """What is known of an invariant."""

    PROVED = "proved"
    REFUTED = "refuted"
    NOT_CHECKABLE = "not checkable"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out about one invariant.

    Attributes:
        code: I1, I2, …
        statement: the invariant, in a sentence.
        status: proved, for everything that `checked` names; refuted; or not checkable.
        checked: what was looked at.
        remarks: what the status does not cover, and why; what a reader should know beside it.
        findings: the first of what contradicts it.
        contradictions: how many there are in all.
    """

    code: str
    statement: str
    status: Status
    checked: str
    remarks: list[str]
    findings: list[Finding]
    contradictions: int


class Findings:
    """Collects what contradicts one invariant."""

    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.count = 0

    def at(self, place: Place, detail: str, **ids: str) -> None:
        """A message of the market log is wrong."""
        self.count += 1
        if len(self.kept) < KEPT:
            self.kept.append(
                Finding(source=place.stream, sequence=place.sequence, subject=place.subject, ids=ids, detail=detail)
            )

    def elsewhere(
        self, source: str, detail: str, *, sequence: int = 0, subject: str = "", ids: Mapping[str, str] = {}
    ) -> None:
        """Something else is wrong: a row, a line of a file, a message of another stream."""
        self.count += 1
        if len(self.kept) < KEPT:
            self.kept.append(Finding(source=source, sequence=sequence, subject=subject, ids=dict(ids), detail=detail))
