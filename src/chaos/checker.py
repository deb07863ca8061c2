"""Compares the clients' responses, the market log and the ledger's positions. Pure.

Each finding is a sentence that names its evidence; the absence of findings is the proof. It holds because the history
has every response, the log is complete (nothing may be deleted from it), and the ledger has caught up.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from wire.market import SymbolMarket
from wire.orders import Order, OrderResult, RecordedFill
from wire.positions import Position
from wire.quotes import QuoteActivated, QuoteEvent


class Entry(NamedTuple):
    """One message of the market log, and when the broker stored it."""

    time: datetime
    shard: int
    sequence: int
    content: list[RecordedFill] | QuoteEvent


class ClientOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """One order and its outcome at the client. `outcome` is a name as in `loadgen.outcomes`."""

    order: Order
    outcome: str
    result: OrderResult | None = None


class Findings(msgspec.Struct, kw_only=True):
    """What is wrong; all lists are empty if nothing is.

    Attributes:
        unknown: orders whose outcome never became known.
        lost: acknowledged fills that are not in the log, or not as acknowledged.
        doubled: orders or fills that are in the log more than once.
        refuted: all other contradictions.
        most: the most lots that active quotes showed on one side at any instant.
    """

    unknown: list[str] = []
    lost: list[str] = []
    doubled: list[str] = []
    refuted: list[str] = []
    most: int = 0

    @property
    def clean(self) -> bool:
        """True if there is no finding."""
        return not (self.unknown or self.lost or self.doubled or self.refuted)


def verify(
    orders: Mapping[str, ClientOutcome], log: Sequence[Entry], positions: Iterable[Position], *, limit: int
) -> Findings:
    """Compare everything, and return the findings."""
    findings = Findings()
    fills = [fill for entry in log if isinstance(entry.content, list) for fill in entry.content]
    _check_log(findings, log)
    _check_orders(findings, orders, fills)
    _check_positions(findings, fills, positions)
    findings.most = most_shown(log)
    if findings.most > limit:
        findings.refuted.append(f"active quotes showed {findings.most} lots on one side, over the limit of {limit}")
    return findings


def _check_orders(findings: Findings, orders: Mapping[str, ClientOutcome], fills: Sequence[RecordedFill]) -> None:
    by_order: dict[str, list[RecordedFill]] = defaultdict(list)
    for fill in fills:
        by_order[fill.order_id].append(fill)
    for order_id, recorded in by_order.items():
        if len(recorded) > 1:
            findings.doubled.append(f"order {order_id} has {len(recorded)} fills: {_ids(recorded)}")
    for order_id, known in orders.items():
        recorded = by_order.get(order_id, [])
        for fill in recorded:
            _check_fill(findings, known.order, fill)
        result = known.result
        if known.outcome in ("unknown", "undelivered"):
            findings.unknown.append(f"order {order_id} is {known.outcome}; the log has {_ids(recorded) or 'nothing'}")
        elif result is None:
            findings.refuted.append(f"order {order_id} is valid, but was {known.outcome}")
        else:
            _check_result(findings, result, recorded)


def _check_result(findings: Findings, result: OrderResult, recorded: Sequence[RecordedFill]) -> None:
    acknowledged = {fill.fill_id: fill for fill in result.fills}
    in_log = {fill.fill_id: fill.fill for fill in recorded}
    for fill_id, fill in acknowledged.items():
        if fill_id not in in_log:
            findings.lost.append(f"order {result.order_id} was answered with {fill_id}, which is not in the log")
        elif in_log[fill_id] != fill:
            findings.lost.append(f"{fill_id} is not in the log as acknowledged: {fill} became {in_log[fill_id]}")
    for fill_id in in_log.keys() - acknowledged.keys():
        findings.refuted.append(
            f"order {result.order_id} was answered {result.status}, without {fill_id}, which is in the log"
        )
    if sum(fill.quantity for fill in result.fills) != result.filled_quantity:
        findings.refuted.append(
            f"order {result.order_id} was answered with {result.filled_quantity} lots, not those of its fills"
        )


def _check_fill(findings: Findings, order: Order, fill: RecordedFill) -> None:
    crosses = fill.price <= order.limit_price if order.side == "buy" else fill.price >= order.limit_price
    if (fill.symbol, fill.side) != (order.symbol, order.side) or fill.quantity > order.quantity or not crosses:
        findings.refuted.append(f"{fill.fill_id} does not match order {order.order_id}")


def _check_log(findings: Findings, log: Sequence[Entry]) -> None:
    """Check each symbol's log: numbers have no gap, and each fill matches its quote in time, price and quantity."""
    markets: dict[str, SymbolMarket] = {}
    seen: set[str] = set()
    for entry in sorted(log, key=lambda entry: (entry.shard, entry.sequence)):
        if not isinstance(entry.content, list):
            event = entry.content
            market = markets.setdefault(event.symbol, SymbolMarket(event.symbol))
            if isinstance(event, QuoteActivated) and event.version <= market.version:
                findings.refuted.append(f"quote {event.quote_id} replaced a newer one")
            market.apply_quote(entry.sequence, event)
            continue
        for fill in entry.content:
            market = markets.setdefault(fill.symbol, SymbolMarket(fill.symbol))
            if fill.fill_id in seen:
                findings.doubled.append(f"fill {fill.fill_id} is in the log more than once")
            seen.add(fill.fill_id)
            if fill.number != market.fill_number + 1:
                findings.refuted.append(f"{fill.fill_id} has number {fill.number} after {market.fill_number}")
            if why := _not_of_quote(market, fill):
                findings.refuted.append(f"{fill.fill_id} {why}")
            market.last_fill = fill
            market.remaining_bid = fill.remaining_bid_quantity
            market.remaining_ask = fill.remaining_ask_quantity


def _not_of_quote(market: SymbolMarket, fill: RecordedFill) -> str:
    """Return why a fill does not match the symbol's latest quote; empty if it does."""
    quote = market.event
    if not isinstance(quote, QuoteActivated) or quote.quote_id != fill.quote_id:
        return f"is on {fill.quote_id}, which was not active"
    if fill.created_at >= quote.expires_at:
        return f"is later than the expiry of {quote.quote_id}"
    bid, ask = market.remaining_bid, market.remaining_ask
    price, left = (quote.ask_price, (bid, ask - fill.quantity))
    if fill.side == "sell":
        price, left = (quote.bid_price, (bid - fill.quantity, ask))
    if fill.price != price:
        return f"is at {fill.price}, but {quote.quote_id} at {price}"
    if min(left) < 0 or left != (fill.remaining_bid_quantity, fill.remaining_ask_quantity):
        return f"leaves {fill.remaining_bid_quantity}/{fill.remaining_ask_quantity}, where {left[0]}/{left[1]} is left"
    return ""


def _check_positions(findings: Findings, fills: Sequence[RecordedFill], positions: Iterable[Position]) -> None:
    by_symbol: dict[str, list[RecordedFill]] = defaultdict(list)
    for fill in fills:
        by_symbol[fill.symbol].append(fill)
    for position in positions:
        own = by_symbol.pop(position.symbol, [])
        net = sum(fill.quantity if fill.side == "sell" else -fill.quantity for fill in own)
        if (position.net_quantity, position.position_version) != (net, len(own)):
            findings.refuted.append(
                f"the position of {position.symbol} is {position.net_quantity} at version "
                f"{position.position_version}; by the log it is {net} at {len(own)}"
            )
    findings.refuted += [f"{symbol} has {len(own)} fills and no position" for symbol, own in by_symbol.items()]


def most_shown(log: Sequence[Entry]) -> int:
    """Return the most lots that all active quotes together showed on one side at any instant, by the broker's clock.

    Only a quote that becomes active adds lots, so only those instants are checked.
    """
    markets: dict[str, SymbolMarket] = {}
    most = 0
    for entry in sorted(log, key=lambda entry: (entry.time, entry.shard, entry.sequence)):
        if isinstance(entry.content, list):
            for fill in entry.content:
                market = markets.setdefault(fill.symbol, SymbolMarket(fill.symbol))
                market.remaining_bid = fill.remaining_bid_quantity
                market.remaining_ask = fill.remaining_ask_quantity
            continue
        event = entry.content
        market = markets.setdefault(event.symbol, SymbolMarket(event.symbol))
        market.head = 0
        market.apply_quote(1, event)
        active = [market for market in markets.values() if market.status_at(entry.time) == "active"]
        most = max(most, sum(m.remaining_bid for m in active), sum(m.remaining_ask for m in active))
    return most


def outcomes(orders: Mapping[str, ClientOutcome]) -> dict[str, int]:
    """Return the number of orders by outcome."""
    return dict(sorted(Counter(known.outcome for known in orders.values()).items()))


def _ids(fills: Sequence[RecordedFill]) -> str:
    return ", ".join(fill.fill_id for fill in fills)
