"""Checks that the market log still holds every fill behind a published position.

If a log lost its newest messages while everything was down, the exchange would assign the numbers and ids of the lost
fills again. The exchange stores nothing else, but a position is published only after its fills were in the log. So if
the fold does not reach the version of a published position, the log has lost messages or the fold lags. In either case
the exchange must decide nothing on it.
"""

PART = "log"

HELP = 'see "The market log has lost messages" in docs/operations.md'


def lost(symbol: str, folded: int, version: int) -> str:
    """Return a text on what the log of a symbol has lost and where to find help; empty if it has lost nothing."""
    if folded >= version:
        return ""
    return f"the log of {symbol} ends at fill {folded:,}, but its position at {version:,} was published; {HELP}"
