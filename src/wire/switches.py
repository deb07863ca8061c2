"""The values of the bucket `switches`: the kill switch, and the symbols that are paused for a loss."""

from wire.fields import Message, Money, Revision, Time, Version
from wire.units import ZERO, FieldError, check_amount


class QuotingSwitch(Message, frozen=True, kw_only=True):
    """The kill switch, as the bucket `switches` holds it: whether makers quote, and since when it stands so."""

    paused: bool
    at: Time


class LossPaused(Message, frozen=True, kw_only=True):
    """A symbol, or all of them together, have lost as much as they may: makers quote it no more until it is resumed.

    Attributes:
        loss: in money, below 0 for a profit.
        max_loss: what it was to stay below, beyond `acknowledged`.
        acknowledged: what was lost when it was resumed last; 0 if it never was.
        position_version: of the position that has lost it; null for all symbols together.
        mark: at which it was valued.
        revision: of the instrument.
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
    """A person has taken note of a loss, of `acknowledged` in money: makers quote again, until as much as `max_loss` is
    lost beyond it."""

    at: Time
    acknowledged: Money

    def __post_init__(self) -> None:
        check_amount("acknowledged", self.acknowledged)
        if self.acknowledged < 0:
            raise FieldError("acknowledged", "must not be negative")
