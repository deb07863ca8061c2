"""Find damage to a NATS server's store: in its log, and in its report of what it stores. Pure.

If the sequence of a stored message is damaged, the server steps through all the sequences in between, and each takes
memory. It logs that it starts to restore the stream, and then nothing, until it reaches its memory limit
(`programs.MEMORY`). So a server that is not ready, and has not logged that it has restored a stream, may never do so.

Nothing is ever deleted from the market log. So if a server of a cluster lacks a message before its last one, it could
not read it. It fetches only later messages from the other servers.
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
"""Outputs of a server that a damaged store has ended, and how to report each."""

_REFUSES = re.compile(r"\[FTL\] (.*)|nats-server: (.*(?:JetStream|[Ss]tor[ae]).*)")
_OF_STORES = re.compile(r"jetstream|stor[ae]|recover", re.IGNORECASE)


def lacking(page: bytes) -> str:
    """Describe which messages of the market log a server of a cluster lacks before its last one, and what to do; empty
    if none.

    Args:
        page: its `/jsz?streams=true`. An unreadable page yields an empty description.
    """
    for stream, state in stored_streams(page).items():
        count = state.last_seq - state.messages
        if stream.startswith(f"{MARKET_STREAM}-") and count > 0:
            missing = "a message" if count == 1 else f"{count:,} messages"
            return f"{stream} lacks {missing} here: the store is damaged; {REPAIR_HINT}"
    return ""


def damage_in(log: str) -> str:
    """Describe what is damaged, or may be, and what to do; empty if there is no sign of damage.

    Args:
        log: the end of the server's log, from its last start or earlier.
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
    """Return the stream whose restore has begun and not finished; empty if there is none."""
    open_ones = [stream for stream in _RESTORES.findall(run) if stream not in _RESTORED.findall(run)]
    return open_ones[-1] if open_ones else ""
