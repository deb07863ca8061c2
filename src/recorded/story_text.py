"""A quote's story as text."""

from collections.abc import Iterator
from datetime import datetime

from recorded.story import Basis, End, Execution, Recomputed, Story, Where
from wire.quotes import QuoteActivated, QuoteRequest

_LABEL = 12


def text(story: Story) -> str:
    """Return the story as text, with one line for each event."""
    return "\n".join(_lines(story))


def _lines(story: Story) -> Iterator[str]:
    yield f"Quote {story.quote_id}"
    yield ""
    if story.basis is not None:
        yield _line("position", _position(story.basis))
    if story.recomputed is not None:
        yield from _proposal(story.recomputed)
    yield from _grant(story)
    if story.activated is None:
        yield _line("active", "never: the market log has no such quote")
    elif story.active_from is not None:
        by = _by(story.activated.asker)
        yield _line("active", f"{_sides(story.activated)} from {_time(story.activated.activated_at)}{by}")
        yield _line("", f"stored as {_where(story.active_from)}; to expire at {_time(story.activated.expires_at)}")
        yield from _fills(story.fills)
    if story.end is not None and story.active_from is not None:
        yield _line("end", _end(story.end, story.active_from))
    for number, logged in enumerate(story.logs):
        fields = " ".join(f"{name}={value}" for name, value in logged.fields.items())
        yield _line(
            "" if number else "logs", f"{_time(logged.time)} {logged.process}: {logged.event} {fields}".rstrip()
        )


def _position(basis: Basis) -> str:
    net = "not known" if basis.net_quantity is None else f"{basis.net_quantity} lots net"
    fill = basis.last_fill
    led = (
        f", after {fill.fill_id}, a {fill.side} of {fill.quantity} at {fill.price}, {_time(fill.created_at)}"
        if fill
        else ""
    )
    return f"version {basis.position_version}: {net}{led}"


def _proposal(recomputed: Recomputed) -> Iterator[str]:
    yield _line("proposal", _sides(recomputed.proposal) if recomputed.proposal else "none")
    yield _line(
        "", recomputed.difference or "recomputed from the settings: the quote's prices are the same, byte for byte"
    )


def _grant(story: Story) -> Iterator[str]:
    record = story.reservation
    if record is not None:
        why = f" by the {record.reason.replace('_', ' ')}" if record.reason else ""
        asked = f"{record.asked_bid_quantity}/{record.asked_ask_quantity}"
        granted = f"{record.granted_bid_quantity}/{record.granted_ask_quantity}"
        detail = f"{record.outcome}{why}: {granted} of {asked} asked (bid/ask), {_time(record.granted_at)}"
        yield _line("grant", f"{detail}{_by(record.asker)}")
        held = f"{record.reserved_bid_quantity}/{record.reserved_ask_quantity}"
        yield _line(
            "", f"{record.reservation_id} is {record.state} and holds {held}; expires {_time(record.expires_at)}"
        )
    elif any(line.event in ("granted", "reduced", "rejected") for line in story.logs):
        yield _line("grant", "no longer in exposure's log; see the logs below")
    else:
        yield _line("grant", "no longer kept")


def _fills(fills: list[Execution]) -> Iterator[str]:
    if not fills:
        yield _line("fills", "none")
    for number, execution in enumerate(fills):
        fill = execution.fill
        left = f"{execution.remaining_bid_quantity}/{execution.remaining_ask_quantity}"
        reported = ", reported" if execution.origin == "reported" else ""
        detail = (
            f"{_time(fill.created_at)} {fill.fill_id}: {fill.side} {fill.quantity} at {fill.price}, leaves {left}, "
            f"order {fill.order_id}{reported}{_by(execution.asker)}, {_where(execution.where)}"
        )
        yield _line("" if number else "fills", detail)


def _end(end: End, active_from: Where) -> str:
    if end.how == "still active":
        return f"still active, until {_time(end.at)} at the latest"
    lived = max(0.0, (end.at - active_from.stored_at).total_seconds())
    by = f" by {end.by}" if end.by else ""
    where = f", {_where(end.where)}" if end.where else ""
    return f"{end.how}{by} at {_time(end.at)}, after {lived:.3f} s{where}{_by(end.asker)}"


def _sides(quote: QuoteRequest | QuoteActivated) -> str:
    bid = f"{quote.bid_quantity} × {quote.bid_price}" if quote.bid_quantity else "no bid"
    ask = f"{quote.ask_price} × {quote.ask_quantity}" if quote.ask_quantity else "no ask"
    return f"{bid} / {ask}"


def _by(asker: str | None) -> str:
    return f", asked by {asker}" if asker else ""


def _where(where: Where) -> str:
    return f"{where.stream} #{where.sequence}"


def _time(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S.%f}"


def _line(label: str, detail: str) -> str:
    return f"  {label:<{_LABEL}}{detail}"
