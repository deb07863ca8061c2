"""What somebody beside the system tells of it, to be shown with it: what was broken on purpose, and what was proved.

`chaos` writes it to a file, which `noticeboard` reads: nobody who only reads the page can.
"""

from datetime import datetime
from typing import Literal

import msgspec

Step = Literal["trading", "healing", "auditing", "done"]


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was broken.

    Attributes:
        target: which process.
        what: what was done to it.
        began: when.
        ready_after: seconds from the fault's end until the process was ready; None while it is not.
        ready_at: when that was.
        trading_after: seconds from the fault's end until an order was filled; None while none is.
    """

    target: str
    what: str
    began: datetime
    ready_at: datetime | None = None
    ready_after: float | None = None
    trading_after: float | None = None


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one invariant: `proved`, `refuted`, or not to be checked."""

    code: str
    status: str
    statement: str


class Notices(msgspec.Struct, frozen=True, kw_only=True):
    """A run that breaks things on purpose, as far as it has come.

    Attributes:
        step: what goes on.
        faults: in the order in which they began.
        clean: whether nothing was lost or refuted; None before that is known.
        verdict: the same for a person.
        proofs: of each invariant; empty before the audit.
    """

    step: Step
    faults: list[Fault]
    clean: bool | None = None
    verdict: str = ""
    proofs: list[Proof] = []
