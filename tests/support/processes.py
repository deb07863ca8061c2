"""What the system knows of other processes."""

from pathlib import Path


def has_ended(pid: int) -> bool:
    """True if a process has ended, even if nobody has reaped it yet."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"
