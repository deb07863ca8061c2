"""Several instances with stale views and inexact clocks, exchanges that race each other, and clients that choose any
ids and versions for their quotes: the limit always holds, and capacity is always freed again."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from exposure.limits import Limits, Write
from exposure.usage import Draft
from support.builders import NOW, fill, quote_activated, recorded_fill
from wire import ids
from wire.errors import Refused
from wire.market import SymbolMarket
from wire.orders import RecordedFill
from wire.quotes import QuoteActivated, QuoteEvent, QuoteWithdrawn
from wire.reservations import Activate, Deactivate, ReservationAnswer, ReservationRecord, ReservationRequest

LIMIT = 10
LIFETIME = timedelta(seconds=30)
GRACE = timedelta(seconds=2)
SYMBOLS = ("AAA", "BBB")
KEPT = 2 * (LIFETIME + GRACE)
SKEWS = (timedelta(seconds=0.7), timedelta(seconds=-0.7))

INDEXES = st.integers(0, len(SKEWS) - 1)
NAMES = st.integers(1, 2)
NEWS = st.sampled_from(["all", "all", "log", "none"])
"""The logs that an instance reads before it decides. Without exposure's log its write would seldom be accepted."""


@dataclass
class Log:
    """Exposure's log: appends compare the last sequence; each message has a time and an array of records."""

    messages: list[tuple[datetime, list[ReservationRecord]]] = field(default_factory=list)

    def append(self, base: int, records: list[ReservationRecord], now: datetime) -> bool:
        if base != len(self.messages):
            return False
        self.messages.append((now, records))
        return True

    def __len__(self) -> int:
        return len(self.messages)


@dataclass
class Instance:
    """One exposure instance, and how far it has read the logs."""

    skew: timedelta
    limits: Limits = field(default_factory=lambda: Limits(LIMIT, LIFETIME, GRACE, SYMBOLS))
    log_read: int = 0
    market_read: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SYMBOLS, 0))


@dataclass
class Activation:
    """An exchange that has activated a reservation, and not yet appended its quote event."""

    request: Activate
    expires_at: datetime


class Exposed(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.log = Log()
        self.market: dict[str, list[QuoteEvent | list[RecordedFill]]] = {symbol: [] for symbol in SYMBOLS}
        self.truth = {symbol: SymbolMarket(symbol) for symbol in SYMBOLS}
        self.instances = [Instance(skew) for skew in SKEWS]
        self.activations: list[Activation] = []
        self.first: dict[str, ReservationAnswer] = {}
        self.tokens = 0

    # --- the world ------------------------------------------------------------------------------------------------

    def append_market(self, symbol: str, message: QuoteEvent | list[RecordedFill]) -> None:
        self.market[symbol].append(message)
        fold_market(self.truth[symbol], len(self.market[symbol]), message)

    def write(self, instance: Instance, *writes: Write | None) -> bool:
        """Append the writes as one message. Return False if the compare was lost."""
        records = [write.record for write in writes if write is not None]
        if not records:
            return True
        if not self.log.append(instance.limits.usage.head, records, self.now):
            return False
        instance.limits.usage.fold(len(self.log), records)
        return True

    def instance(self, index: int, news: str) -> Instance:
        """Return an instance after it has read the logs that `news` names."""
        if news != "none":
            self.read_log(index, len(self.log))
        if news == "all":
            for symbol in SYMBOLS:
                self.read_market(index, symbol, len(self.market[symbol]))
        return self.instances[index]

    @rule(index=INDEXES, count=st.integers(1, 9))
    def read_log(self, index: int, count: int) -> None:
        """An instance's tail delivers messages of exposure's log."""
        instance = self.instances[index]
        for sequence in range(instance.log_read + 1, min(instance.log_read + count, len(self.log)) + 1):
            instance.log_read = sequence
            time, records = self.log.messages[sequence - 1]
            instance.limits.usage.fold(sequence, records)
            instance.limits.usage.advance_time(time)

    @rule()
    def move_time(self) -> None:
        """Some instance appends a message without records."""
        self.log.append(len(self.log), [], self.now)

    @rule(index=INDEXES, symbol=st.sampled_from(SYMBOLS), count=st.integers(1, 9))
    def read_market(self, index: int, symbol: str, count: int) -> None:
        instance = self.instances[index]
        read = instance.market_read[symbol]
        for sequence in range(read + 1, min(read + count, len(self.market[symbol])) + 1):
            instance.market_read[symbol] = sequence
            fold_into(instance.limits, symbol, sequence, self.market[symbol][sequence - 1])

    @rule(index=INDEXES)
    def restart(self, index: int) -> None:
        """A new instance reads exposure's log, and the last message of each subject of the market log."""
        instance = self.instances[index] = Instance(self.instances[index].skew)
        self.fold_everything(instance)

    def fold_everything(self, instance: Instance) -> None:
        usage = instance.limits.usage
        for sequence, (time, records) in enumerate(self.log.messages, 1):
            if time > self.now - KEPT:  # the broker has removed what is older
                usage.fold(sequence, records)
                usage.advance_time(time)
        instance.log_read = len(self.log)
        usage.skip_to(instance.log_read)
        for symbol, log in self.market.items():
            instance.market_read[symbol] = len(log)
            last = {isinstance(message, list): sequence for sequence, message in enumerate(log, 1)}
            for sequence in sorted(last.values()):
                fold_into(instance.limits, symbol, sequence, log[sequence - 1])

    @rule(seconds=st.sampled_from([0.3, 0.3, 0.3, 1.5, 1.5, 29, 40]))
    def time_passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    # --- clients and exchanges ------------------------------------------------------------------------------------

    @rule(
        index=INDEXES,
        news=NEWS,
        symbol=st.sampled_from(SYMBOLS),
        name=NAMES,
        bid=st.sampled_from([0, 4, LIMIT]),
        ask=st.sampled_from([3, LIMIT]),
        asker=st.sampled_from([None, "one", "two"]),
    )
    def reserve(
        self, index: int, news: str, symbol: str, name: int, bid: int, ask: int, asker: str | None = None
    ) -> None:
        instance = self.instance(index, news)
        quote_id = f"{symbol}-{name}"
        request = ReservationRequest(quote_id=quote_id, symbol=symbol, bid_quantity=bid, ask_quantity=ask)
        try:
            decision = instance.limits.reserve(request, self.now + instance.skew, asker)
        except Refused:
            assert instance.limits.usage.record(ids.reservation_id(quote_id)) is not None
            return
        current = instance.limits.usage.head == len(self.log)
        if decision.write is None:
            if current and decision.answer.outcome != "rejected":
                assert as_first(decision.answer) == as_first(self.first[quote_id])
        elif self.write(instance, *decision.writes):
            assert current
            self.first[quote_id] = decision.answer

    @rule(
        index=INDEXES,
        news=NEWS,
        symbol=st.sampled_from(SYMBOLS),
        name=NAMES,
        age=st.sampled_from(["newer", "newer", "newest", "equal"]),
        quantity=st.sampled_from([1, LIMIT, LIMIT]),
    )
    def activate(self, index: int, news: str, symbol: str, name: int, age: str, quantity: int) -> None:
        """An exchange is about to make a quote active, at most at the granted size."""
        instance = self.instance(index, news)
        record = instance.limits.usage.record(ids.reservation_id(f"{symbol}-{name}"))
        version, _, attempt = self.truth[symbol].version
        if age != "equal" or attempt == 0:
            version, attempt = version + (2 if age == "newest" else 1), 1
        self.tokens += 1
        request = Activate(
            reservation_id=ids.reservation_id(f"{symbol}-{name}"),
            quote_id=f"{symbol}-{name}",
            symbol=symbol,
            position_version=version,
            attempt=attempt,
            bid_quantity=min(quantity, record.granted_bid_quantity) if record else quantity,
            ask_quantity=min(quantity, record.granted_ask_quantity) if record else quantity,
            activation=f"token-{self.tokens}",
        )
        try:
            decision = instance.limits.activate(request, self.now + instance.skew)
        except Refused:
            return
        if self.write(instance, decision.write):
            self.activations.append(Activation(request, decision.answer.expires_at))

    @rule(index=INDEXES, symbol=st.sampled_from(SYMBOLS), name=NAMES, quantity=st.sampled_from([4, LIMIT]))
    def make(self, index: int, symbol: str, name: int, quantity: int) -> None:
        """A quote is reserved, activated and made active at once."""
        self.reserve(index, "all", symbol, name, quantity, quantity)
        before = len(self.activations)
        self.activate(index, "all", symbol, name, "newer", LIMIT)
        if len(self.activations) > before:
            self.quote(before)

    @rule(pick=st.integers(0, 20))
    def quote(self, pick: int) -> None:
        """An exchange appends a quote event, only if it is newer than the latest and has not expired."""
        if not self.activations:
            return
        activation = self.activations[pick % len(self.activations)]
        request, latest = activation.request, self.truth[activation.request.symbol]
        if request.version <= latest.version or self.now >= activation.expires_at:
            return
        self.activations.remove(activation)
        event = quote_activated(
            request.symbol,
            quote_id=request.quote_id,
            position_version=request.position_version,
            attempt=request.attempt,
            bid_quantity=request.bid_quantity,
            ask_quantity=request.ask_quantity,
            activated_at=self.now,
            expires_at=activation.expires_at,
        )
        self.append_market(request.symbol, event)

    @rule(pick=st.integers(0, 20), index=INDEXES, news=NEWS)
    def deactivate(self, pick: int, index: int, news: str) -> None:
        """An exchange, for whatever reason, will not append its quote event."""
        if not self.activations:
            return
        activation = self.activations.pop(pick % len(self.activations))
        instance = self.instance(index, news)
        request = Deactivate(reservation_id=activation.request.reservation_id, activation=activation.request.activation)
        try:
            decision = instance.limits.deactivate(request)
        except Refused:
            assert instance.limits.usage.record(request.reservation_id) is None
            return
        self.write(instance, decision.write)

    @rule(symbol=st.sampled_from(SYMBOLS), bid=st.integers(0, 4), ask=st.integers(0, LIMIT))
    def trade(self, symbol: str, bid: int, ask: int) -> None:
        """Orders take from the active quote."""
        latest = self.truth[symbol]
        bid, ask = min(bid, latest.remaining_bid), min(ask, latest.remaining_ask)
        if latest.status_at(self.now) != "active" or not (bid or ask):
            return
        number, left_bid, left_ask = latest.fill_number, latest.remaining_bid, latest.remaining_ask
        fills = []
        for side, quantity in (("sell", bid), ("buy", ask)):
            if quantity:
                number += 1
                left_bid -= quantity if side == "sell" else 0
                left_ask -= quantity if side == "buy" else 0
                assert latest.event is not None
                fills.append(
                    recorded_fill(
                        symbol,
                        number,
                        side=side,
                        quantity=quantity,
                        quote_id=latest.event.quote_id,
                        remaining_bid_quantity=left_bid,
                        remaining_ask_quantity=left_ask,
                    )
                )
        self.append_market(symbol, fills)

    @rule(symbol=st.sampled_from(SYMBOLS))
    def withdraw(self, symbol: str) -> None:
        event = self.truth[symbol].event
        if isinstance(event, QuoteActivated):
            self.append_market(
                symbol,
                QuoteWithdrawn(
                    symbol=symbol,
                    quote_id=event.quote_id,
                    reservation_id=event.reservation_id,
                    position_version=event.position_version,
                    attempt=event.attempt,
                    withdrawn_at=self.now,
                ),
            )

    @rule(index=INDEXES, news=NEWS, symbol=st.sampled_from(SYMBOLS), name=NAMES)
    def release(self, index: int, news: str, symbol: str, name: int) -> None:
        instance = self.instance(index, news)
        try:
            decision = instance.limits.release(ids.reservation_id(f"{symbol}-{name}"))
        except Refused:
            return
        self.write(instance, decision.write)

    @rule(
        index=INDEXES,
        news=NEWS,
        symbol=st.sampled_from(SYMBOLS),
        name=NAMES,
        side=st.sampled_from(["buy", "sell"]),
        quantity=st.integers(1, 4),
        number=st.integers(1, 4),
    )
    def apply_fill(self, index: int, news: str, symbol: str, name: int, side: str, quantity: int, number: int) -> None:
        instance = self.instance(index, news)
        reported = fill(
            fill_id=f"reported-{number}", symbol=symbol, quote_id=f"{symbol}-{name}", side=side, quantity=quantity
        )
        reservation_id = ids.reservation_id(f"{symbol}-{name}")
        before = instance.limits.usage.record(reservation_id)
        try:
            decision = instance.limits.apply_fill(reservation_id, reported)
        except Refused:
            return
        if decision.write is not None:
            assert before is not None
            assert reported.fill_id not in before.applied_fills
        self.write(instance, decision.write)

    @rule(index=INDEXES, news=NEWS, quantities=st.lists(st.sampled_from([3, 7, LIMIT]), min_size=2, max_size=4))
    def reserve_together(self, index: int, news: str, quantities: list[int]) -> None:
        """Several requests are decided in turn on a draft, and written as one message or not at all."""
        instance = self.instance(index, news)
        draft = Draft(instance.limits.usage)
        limits = instance.limits.on(draft)
        decided: dict[str, ReservationAnswer] = {}
        for number, quantity in enumerate(quantities):
            symbol = SYMBOLS[number % len(SYMBOLS)]
            quote_id = f"{symbol}-{1 + number // len(SYMBOLS)}"
            request = ReservationRequest(quote_id=quote_id, symbol=symbol, bid_quantity=quantity, ask_quantity=quantity)
            before = draft.total
            try:
                decision = limits.reserve(request, self.now + instance.skew)
            except Refused:
                continue
            for write in decision.writes:
                draft.add(write.record)
            if decision.write is not None:
                decided[quote_id] = decision.answer
            # An instance that has not read of a quote's end still counts it, beside later grants of others.
            assert draft.total.bid <= max(LIMIT, before.bid)
            assert draft.total.ask <= max(LIMIT, before.ask)
        total = draft.total
        if self.log.append(instance.limits.usage.head, list(draft.records), self.now) and decided:
            instance.limits.usage.fold(len(self.log), draft.records)
            assert instance.limits.usage.total == total
            self.first |= decided

    # --- what must hold -------------------------------------------------------------------------------------------

    def active(self) -> list[SymbolMarket]:
        return [latest for latest in self.truth.values() if latest.status_at(self.now) == "active"]

    @invariant()
    def active_quotes_never_exceed_the_limit(self) -> None:
        assert sum(latest.remaining_bid for latest in self.active()) <= LIMIT
        assert sum(latest.remaining_ask for latest in self.active()) <= LIMIT

    @invariant()
    def every_active_quote_has_its_own_active_reservation(self) -> None:
        truth = self.everything().limits.usage
        for latest in self.active():
            assert latest.event is not None
            if not (latest.remaining_bid or latest.remaining_ask):
                continue
            record = truth.record(latest.event.reservation_id)
            assert record is not None
            assert record.state == "active"
            assert record.version == latest.version
            assert latest.remaining_bid <= record.reserved_bid_quantity
            assert latest.remaining_ask <= record.reserved_ask_quantity

    @invariant()
    def usage_never_exceeds_the_limit(self) -> None:
        assert max(self.everything().limits.usage.total) <= LIMIT

    def everything(self) -> Instance:
        """Return an instance that has read both logs to their end."""
        instance = Instance(timedelta(0))
        self.fold_everything(instance)
        return instance

    @invariant()
    def usage_is_what_a_fold_from_scratch_says(self) -> None:
        """The total is updated by differences, and must remain the sum of its parts."""
        for instance in self.instances:
            usage = instance.limits.usage
            views = usage.live
            assert usage.count == len(views)
            for side, total in (("bid", usage.total.bid), ("ask", usage.total.ask)):
                largest = dict.fromkeys(SYMBOLS, 0)
                for view in views:
                    quantity = getattr(view, f"reserved_{side}_quantity")
                    largest[view.symbol] = max(largest[view.symbol], quantity)
                assert total == sum(largest.values())

    def teardown(self) -> None:
        """All activity stops: time alone frees all capacity, on every instance."""
        self.now += LIFETIME + GRACE + timedelta(seconds=2)
        self.move_time()
        for index, instance in enumerate(self.instances):
            self.read_log(index, len(self.log))
            assert instance.limits.usage.total == (0, 0)
            request = ReservationRequest(quote_id="AAA-9", symbol="AAA", bid_quantity=LIMIT, ask_quantity=LIMIT)
            assert instance.limits.reserve(request, self.now).answer.outcome == "granted"


def fold_market(market: SymbolMarket, sequence: int, message: QuoteEvent | list[RecordedFill]) -> None:
    if isinstance(message, list):
        market.apply_fills(sequence, message)
    else:
        market.apply_quote(sequence, message)


def fold_into(limits: Limits, symbol: str, sequence: int, message: QuoteEvent | list[RecordedFill]) -> None:
    if isinstance(message, list):
        limits.usage.fold_fills(symbol, sequence, message)
    else:
        limits.usage.fold_quote(symbol, sequence, message)


def as_first(answer: ReservationAnswer) -> ReservationAnswer:
    """Return an answer without the fields that change later: the reservation's current state."""
    assert answer.reservation is not None
    unchanged = replace(answer.reservation, state="active", activated_at=None, expires_at=NOW)
    return replace(answer, reservation=unchanged)


TestExposed = Exposed.TestCase
TestExposed.settings = settings(
    max_examples=100,
    stateful_step_count=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
