"""How another program gets one quote's story: the command, which is `__main__`, and its exit codes."""

import sys

COMMAND = (sys.executable, "-m", "recorded")
"""The command, to which the quote's id is appended. It reads everything else from the settings."""

PRINTED, UNKNOWN_QUOTE, CANNOT = 0, 1, 2
"""Exit codes: the story was printed; no such quote is known; the logs cannot be read."""
