"""What a NATS server's log says of a store that it cannot restore. Pure.

A message whose sequence was damaged sends the server through all the sequences between, which takes memory for each: it
says that it starts to restore a stream, and no more, until it has used up what it may have (`programs.MEMORY`).
"""

import re

REMEDY = 'see "A damaged store" in docs/operations.md'

_STARTS = re.compile(r"Starting nats-server")
_RESTORES = re.compile(r"Starting restore for stream '[^']* > ([^']+)'")
_RESTORED = re.compile(r"Restored [\d,]+ messages for stream '[^']* > ([^']+)'")
_OUT_OF_MEMORY = "out of memory"


def told_by(log: str) -> str:
    """What is damaged, and where it says what to do; empty if nothing is known to be.

    Args:
        log: the end of the server's log, with its last start.
    """
    *_, before, last = ["", "", *_STARTS.split(log)]
    for run in (last, before):
        if _OUT_OF_MEMORY in run:
            stream = _unfinished(run)
            if stream:
                return f"{stream} cannot be restored, its store is damaged: the server ran out of memory; {REMEDY}"
    return ""


def _unfinished(run: str) -> str:
    """The stream whose restoring has begun and not ended; empty if there is none."""
    open_ones = [stream for stream in _RESTORES.findall(run) if stream not in _RESTORED.findall(run)]
    return open_ones[-1] if open_ones else ""
