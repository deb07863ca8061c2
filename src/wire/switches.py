"""The values of the bucket `switches`: the kill switch, and pauses for a loss."""

from wire.fields import Message, Money, Revision, Time, Version
from wire.units import ZERO, FieldError, check_amount


class QuotingSwitch(Message, frozen=True, kw_only=True):
    """The kill switch as the bucket `switches` stores it: whether makers are paused, and since when."""

    paused: bool
    at: Time


class LossPaused(Message, frozen=True, kw_only=True):
    """A symbol, or all symbols together, reached their largest loss. Makers do not quote them until they are resumed.

    Attributes:
        loss: the loss in money; negative for a profit.
        max_loss: the limit of the loss beyond `acknowledged`.
        acknowledged: the loss at the last resumption; 0 before any.
        position_version: the version of the position with the loss; null for all symbols together.
        mark: the price at which the position was valued; null for all symbols together.
        revision: the revision of the instrument; null for all symbols together.
    """

    at: Time
    loss: Money
    max_loss: Money
    acknowledged: Money = ZERO
    position_version: Version | None = None
    mark: Money | None = None
    revision: Revision | None = None

    def __post_init__(self) -> None:
        for field in ("loss", "max_loss", "acknowledged", "mark"):
            check_amount(field, getattr(self, field))


class LossResumed(Message, frozen=True, kw_only=True):
    """A person acknowledged a loss of `acknowledged`, in money. Makers quote again until the loss exceeds it by
    `max_loss`."""

    at: Time
    acknowledged: Money

    def __post_init__(self) -> None:
        check_amount("acknowledged", self.acknowledged)
        if self.acknowledged < 0:
            raise FieldError("acknowledged", "must not be negative")
