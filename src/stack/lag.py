"""The lag of a service, read from its metrics. Pure."""

from collections import defaultdict
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

_FOLLOWED = "quotestream_consumer_lag_messages"
_RECEIVED, _APPLIED = "ledger_received_sequence", "ledger_applied_sequence"
_PENDING = "ledger_positions_pending"


@dataclass(frozen=True, slots=True)
class Lag:
    """The work that a service has yet to do.

    Attributes:
        messages: messages of the logs it follows that it has not received, or, if it is a ledger, has not applied.
        positions: for a ledger, symbols whose newest position is not published yet.
    """

    messages: int
    positions: int = 0

    def __str__(self) -> str:
        unpublished = f", {self.positions} to publish" if self.positions else ""
        return f"{self.messages}{unpublished}"


def lag_of(metrics: str) -> Lag | None:
    """Return the lag in the text of a service's `GET /metrics`; None if the service follows no log."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for family in text_string_to_metric_families(metrics):
        if family.name in (_FOLLOWED, _RECEIVED, _APPLIED, _PENDING):
            for sample in family.samples:
                found[family.name][" ".join(sample.labels.values())] = sample.value
    if not found[_FOLLOWED]:
        return None
    messages = sum(found[_FOLLOWED].values())
    for shard, received in found[_RECEIVED].items():
        messages += max(0.0, received - found[_APPLIED].get(shard, received))
    return Lag(int(messages), int(sum(found[_PENDING].values())))
