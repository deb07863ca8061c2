"""What the processes of a system report about themselves to each other and to operators."""

from typing import Annotated

import msgspec
from msgspec import Meta

from wire.fields import Count, Id, Message, Symbol


class InstancePresence(Message, frozen=True, kw_only=True):
    """An instance says that it is there and able to work, or, with `leaves`, that it works no more."""

    instance: Id
    leaves: bool = False


class ProcessReport(Message, frozen=True, kw_only=True):
    """What one process says of itself: the `data` of its answer on `$SRV.STATS`.

    Attributes:
        process: which instance of its service it is, such as `maker-2`.
        uptime: seconds since it started.
        ready: it can do its job, waiting for nothing.
        waiting_for: what it waits for, and why.
        behind: messages that are stored and that it has yet to be given, of all streams that it follows.
        quarantined: messages that it could not use since it started.
        unquoted: of a maker: symbols without a live quote, by why; its state, or what was refused to it last.
        more_unquoted: symbols without a live quote that are not named.
        orders: of an exchange: orders answered since it started, by outcome, reject reason or refusal.
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
