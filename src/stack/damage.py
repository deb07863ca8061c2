"""What a NATS server's log says of a store that it cannot restore, and what a server of a cluster lacks. Pure.

A message whose sequence was damaged sends the server through all the sequences between, which takes memory for each: it
says that it starts to restore a stream, and no more, until it has used up what it may have (`programs.MEMORY`). So a
server that is not ready, and has not said that it has restored a stream, may never do so.

Nothing is ever deleted from the market log, so what a server lacks between its messages it could not read. It gets from
the others only what it lacks after them.
"""

import re

from jet.stream_integrity import REPAIR_HINT as REPAIR_HINT
from stack.stored_streams import stored_streams
from wire.subjects import MARKET_STREAM

_STARTS = re.compile(r"Starting nats-server")
_RESTORES = re.compile(r"Starting restore for stream '[^']* > ([^']+)'")
_RESTORED = re.compile(r"Restored [\d,]+ messages for stream '[^']* > ([^']+)'")
_ENDS = {
    "out of memory": "the server ran out of memory",
    "panic:": "the server crashed",
    "fatal error:": "the server crashed",
}
"""What a server prints that ends over a store, and what to tell of it."""

_REFUSES = re.compile(r"\[FTL\] (.*)|nats-server: (.*(?:JetStream|[Ss]tor[ae]).*)")
_OF_STORES = re.compile(r"jetstream|stor[ae]|recover", re.IGNORECASE)


def lacking(page: bytes) -> str:
    """What of the market log a server of a cluster does not hold, though it holds what comes after, and where it says
    what to do; empty if nothing.

    Args:
        page: its `/jsz?streams=true`; what cannot be read says nothing.
    """
    for stream, state in stored_streams(page).items():
        count = state.last_seq - state.messages
        if stream.startswith(f"{MARKET_STREAM}-") and count > 0:
            missing = "a message" if count == 1 else f"{count:,} messages"
            return f"{stream} lacks {missing} here: the store is damaged; {REPAIR_HINT}"
    return ""


def damage_in(log: str) -> str:
    """What is damaged, or may be, and where it says what to do; empty if nothing is known to be.

    Args:
        log: the end of the server's log, with its last start.
    """
    *_, before, last = ["", "", *_STARTS.split(log)]
    for run in (last, before):
        stream, why = _unfinished(run), next((reason for end, reason in _ENDS.items() if end in run), "")
        if stream and why:
            return f"{stream} cannot be restored, its store is damaged: {why}; {REPAIR_HINT}"
        refusals = [logged or printed for logged, printed in _REFUSES.findall(run)]
        if found := [refusal for refusal in refusals if _OF_STORES.search(refusal)]:
            return f"{found[-1].strip()}; {REPAIR_HINT}"
    if stream := _unfinished(last):
        return f"{stream} is being restored, which does not end if its store is damaged; {REPAIR_HINT}"
    return ""


def _unfinished(run: str) -> str:
    """The stream whose restoring has begun and not ended; empty if there is none."""
    open_ones = [stream for stream in _RESTORES.findall(run) if stream not in _RESTORED.findall(run)]
    return open_ones[-1] if open_ones else ""
