"""The progress of a run that breaks the system on purpose, for the page: the faults so far, and what was proved.

`chaos` writes it to a file, which `notices_file` reads. Nothing that a reader of the page can reach writes it.
"""

from datetime import datetime
from typing import Literal

import msgspec

Step = Literal["trading", "healing", "auditing", "done"]


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One fault that was injected.

    Attributes:
        target: the process it was injected into.
        what: what was done to that process.
        began: when.
        ready_at: when the process was ready again; None while it is not.
        ready_after: seconds from the fault's end until `ready_at`.
        trading_after: seconds from the fault's end until an order was filled; None while none is.
    """

    target: str
    what: str
    began: datetime
    ready_at: datetime | None = None
    ready_after: float | None = None
    trading_after: float | None = None


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """The audit's verdict on one invariant: its `status` is `proved`, `refuted` or `not checkable`."""

    code: str
    status: str
    statement: str


class Notices(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of one run.

    Attributes:
        step: the step it is in.
        faults: in the order in which they began.
        clean: whether nothing was lost or refuted; None before that is known.
        verdict: the same as a sentence.
        proofs: one for each invariant; empty before the audit.
    """

    step: Step
    faults: list[Fault]
    clean: bool | None = None
    verdict: str = ""
    proofs: list[Proof] = []
