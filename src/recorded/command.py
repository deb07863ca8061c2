"""How another program asks for one quote's story, which `__main__` prints as JSON."""

import sys

COMMAND = (sys.executable, "-m", "recorded")
"""What is run, with the quote's id behind it: everything else it knows from the settings."""

TOLD, UNKNOWN_QUOTE, CANNOT = 0, 1, 2
"""Exit codes."""
