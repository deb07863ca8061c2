"""Verifies the hash chain of the market log, and its seals.

This is no invariant of its own, but all invariants depend on it. A message that was changed, removed or moved breaks
its symbol's chain at the next message. If somebody recomputes all hashes, a seal reveals it: it contains a hash over a
whole shard up to some message, signed with a key that is kept elsewhere.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime

import msgspec

from audit.findings import Findings, Status, Verdict
from jet.journal import is_append
from jet.tail import Message
from wire import chain, subjects

STATEMENT = "No message of the market log was changed, left out, moved or cut off after it was stored."


class Seal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The state of the log's shards at one time.

    Attributes:
        at: the time, by the broker's clock.
        shards: for each stream, its last sequence, and the hash over all messages up to it.
    """

    at: datetime
    shards: dict[str, tuple[int, str]]


class Chain:
    """Verifies one shard, message by message.

    Attributes:
        sequence: of the last message taken; 0 before the first.
        sum: the hash over all messages so far, as in a seal.
        chained: the number of messages that carry the hash of the one before.
    """

    def __init__(self, stream: str, seals: Sequence[Seal], found: Findings) -> None:
        self.sequence = 0
        self.sum = ""
        self.chained = 0
        self._stream = stream
        self._found = found
        self._last: dict[str, str] = {}
        self._begun: set[str] = set()
        sealed = ((*seal.shards[stream], seal.at) for seal in seals if stream in seal.shards)
        # An empty shard has nothing to compare.
        self._sealed = sorted((each for each in sealed if each[0]), reverse=True)

    def take(self, message: Message) -> None:
        """Verify the next message of the shard."""
        headers = message.headers or {}
        symbol = subjects.last_token(message.subject)
        carried = headers.get(chain.HEADER)
        if carried is not None:
            self.chained += 1
            self._begun.add(symbol)
            if carried != self._last.get(symbol, chain.FIRST):
                self._add_finding(message, "carries a hash that is not that of the message before it")
        elif symbol in self._begun and is_append(headers):
            self._add_finding(message, f"carries no {chain.HEADER}, though those before it do")
        own = chain.link(message.sequence, message.subject, message.headers, message.data)
        self._last[symbol] = own
        self.sequence = message.sequence
        self.sum = hashlib.sha256(f"{self.sum}{own}{message.time.isoformat()}".encode()).hexdigest()
        while self._sealed and self._sealed[-1][0] <= message.sequence:
            sequence, sealed, at = self._sealed.pop()
            if (sequence, sealed) != (message.sequence, self.sum):
                self._add_finding(message, f"differs from the seal of {at}, which covers the messages up to {sequence}")

    def ended(self) -> None:
        """Compare the end of the shard with the seals that are left."""
        for sequence, _, at in self._sealed:
            detail = f"it ends at {self.sequence}, but the seal of {at} covers messages up to {sequence}"
            self._found.elsewhere(self._stream, detail, sequence=self.sequence)

    def _add_finding(self, message: Message, detail: str) -> None:
        self._found.elsewhere(self._stream, f"the message {detail}", sequence=message.sequence, subject=message.subject)


def verdict(chains: Sequence[Chain], seals: Sequence[Seal] | None, found: Findings) -> Verdict:
    """Return the verdict on all shards. `seals` is None if they are not to be checked; an empty sequence refutes."""
    if seals is not None and not seals:
        found.elsewhere("seals", "no seal is signed with that key")
    chained = sum(each.chained for each in chains)
    sealed = f", {len(seals)} seals" if seals else ""
    is_proved = bool(chained or seals)
    return Verdict(
        code="link",
        statement=STATEMENT,
        status=Status.REFUTED if found.count else Status.PROVED if is_proved else Status.NOT_CHECKABLE,
        checked=f"{chained:,} messages that carry the hash of the one before{sealed}",
        remarks=[] if is_proved else ["no message carries the hash of the one before"],
        findings=found.kept,
        contradictions=found.count,
    )
