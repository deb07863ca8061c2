"""What processes report about themselves to each other and to operators."""

from typing import Annotated

import msgspec
from msgspec import Meta

from wire.fields import Count, Id, Message, Symbol


class InstancePresence(Message, frozen=True, kw_only=True):
    """An instance announces that it is present and able to work or, with `leaves`, that it has stopped."""

    instance: Id
    leaves: bool = False


class ProcessReport(Message, frozen=True, kw_only=True):
    """The state of one process: the `data` of its reply on `$SRV.STATS`.

    Attributes:
        process: the name of the instance, such as `maker-2`.
        uptime: seconds since it started.
        ready: it waits for nothing, and can do its job.
        waiting_for: the parts that it waits for, each with the reason.
        behind: its lag: the number of stored messages that it has not received yet, in all streams that it follows.
        quarantined: the number of messages that it quarantined since it started.
        unquoted: for a maker: the symbols without a live quote, by reason: the maker's state, or the last refusal.
        more_unquoted: the number of symbols without a live quote that `unquoted` does not name.
        orders: for an exchange: the number of orders answered since it started, by outcome, reject reason or refusal.
    """

    process: Id
    uptime: Annotated[float, Meta(ge=0, le=1e9)]
    ready: bool
    waiting_for: dict[str, str] = msgspec.field(default_factory=dict)
    behind: Count = 0
    quarantined: Count = 0
    unquoted: dict[str, list[Symbol]] = msgspec.field(default_factory=dict)
    more_unquoted: Count = 0
    orders: dict[str, Count] = msgspec.field(default_factory=dict)
