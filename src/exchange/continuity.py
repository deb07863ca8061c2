"""Whether the market log still holds the fills that a ledger has published a position after.

A log that has lost its end while everything was down would have its fills' numbers and ids given out again. An exchange
keeps nothing of its own; but a position is published only after its fills were in the log, so a fold that does not come
to that version is of a log that lost some, or is behind. Either way nothing may be decided on it.
"""

PART = "log"

REMEDY = 'see "The market log has lost messages" in docs/operations.md'


def lost(symbol: str, folded: int, version: int) -> str:
    """What the log has lost of a symbol, and where it says what to do; empty if nothing."""
    if folded >= version:
        return ""
    return f"the log of {symbol} ends at fill {folded:,}, and its position at {version:,} was published; {REMEDY}"
