"""The board: the content of the page, folded from messages."""

from datetime import timedelta
from decimal import Decimal
from itertools import pairwise

import msgspec
import pytest
from msgspec.structs import replace

from support.builders import NOW, fill, instrument, market, position_update, quote_activated, recorded_fill
from support.clock import ManualClock
from ui.board import FILLS_KEPT, LAG_TOLERANCE, Board
from ui.frames import Marked, Row
from ui.symbol_state import HISTORY_POINTS, PROFIT_POINTS
from wire.instruments import Listing
from wire.positions import PositionUpdate
from wire.quotes import QuoteEvent, QuoteWithdrawn
from wire.reservations import LimitUsage, SideUsage


@pytest.fixture
def board() -> Board:
    return Board(market().listings, NOW)


@pytest.fixture
def current(board: Board) -> Board:
    """A board whose sources are all current."""
    for name in ("positions", "market", "exposure"):
        board.set_source(name, NOW)
    board.take_changed()
    return board


def row_of(board: Board, symbol: str = "AAA") -> Row:
    return next(row for row in board.take_changed() if row.symbol == symbol)


def withdrawn(version: int = 0) -> QuoteWithdrawn:
    quote = quote_activated(position_version=version)
    return QuoteWithdrawn(
        symbol=quote.symbol,
        quote_id=quote.quote_id,
        reservation_id=quote.reservation_id,
        position_version=version,
        attempt=quote.attempt,
        withdrawn_at=NOW,
    )


class TestPositions:
    def test_every_configured_symbol_has_a_row_before_anything_happens(self, board: Board) -> None:
        rows = {row.symbol: row for row in board.take_changed()}

        assert rows.keys() == {"AAA", "BBB"}
        assert rows["AAA"].net_quantity == 0
        assert rows["AAA"].position_version == 0
        assert rows["AAA"].last_fill is None

    def test_a_position_is_shown_with_its_last_fill(self, board: Board) -> None:
        led = fill(side="sell", quantity=5, price=Decimal("99.90"))
        board.apply_position(
            position_update(
                net_quantity=5, position_version=1, updated_at=NOW, last_fill=led, last_fill_id=led.fill_id
            ),
            NOW,
        )

        row = row_of(board)
        assert (row.net_quantity, row.position_version, row.updated_at) == (5, 1, NOW)
        assert row.last_fill is not None
        assert (row.last_fill.side, row.last_fill.quantity, row.last_fill.price) == ("sell", 5, Decimal("99.90"))

    @pytest.mark.parametrize("version", [1, 2])
    def test_a_position_that_is_not_newer_is_ignored(self, board: Board, version: int) -> None:
        board.apply_position(position_update(net_quantity=7, position_version=2), NOW)
        board.take_changed()

        board.apply_position(position_update(net_quantity=3, position_version=version), NOW)

        assert board.take_changed() == []

    def test_only_rows_that_changed_are_taken_and_each_once(self, current: Board) -> None:
        current.apply_position(position_update("BBB", net_quantity=1, position_version=1), NOW)
        current.apply_position(position_update("BBB", net_quantity=2, position_version=2), NOW)

        assert [(row.symbol, row.net_quantity) for row in current.take_changed()] == [("BBB", 2)]
        assert current.take_changed() == []

    def test_a_symbol_that_is_not_configured_gets_a_row_when_a_log_names_it(self, current: Board) -> None:
        current.apply_position(position_update("NEW", net_quantity=-1, position_version=1), NOW)

        assert row_of(current, "NEW").net_quantity == -1


class TestInstruments:
    def test_a_row_has_the_state_of_its_instrument_and_its_largest_position(self, current: Board) -> None:
        listing = Listing(instrument(state="close_only", max_position=30), 50, gross=20)
        current.relist({"AAA": listing, "NEW": Listing(instrument(), 50)})
        rows = {row.symbol: (row.instrument, row.largest) for row in current.take_changed()}
        assert rows == {"AAA": ("close_only", 20), "NEW": ("trading", None)}

    def test_profit_is_shown_at_the_instruments_latest_reference_price(self, current: Board) -> None:
        current.relist({"AAA": Listing(instrument(reference_price=Decimal("101.00")), 50)})
        money = row_of(current).money
        assert money is not None
        assert money.at_reference is not None
        assert money.at_reference.mark == Decimal("101.00")

    def test_a_symbol_that_only_a_log_names_has_no_instrument(self, current: Board) -> None:
        current.apply_position(position_update("NEW", net_quantity=-1, position_version=1), NOW)
        row = row_of(current, "NEW")
        assert (row.instrument, row.largest) == (None, None)


class TestQuotes:
    def test_a_symbol_that_was_never_quoted_has_that_state(self, board: Board) -> None:
        row = row_of(board)
        assert (row.quote_state, row.quote) == ("never", None)

    def test_an_activated_quote_shows_what_was_quoted_and_what_remains(self, board: Board) -> None:
        board.apply_quote(1, quote_activated(bid_quantity=8, ask_quantity=10))
        board.apply_fills("AAA", 2, [recorded_fill(remaining_bid_quantity=8, remaining_ask_quantity=9)])

        row = row_of(board)
        assert row.quote_state == "active"
        assert row.quote is not None
        assert (row.quote.bid_remaining, row.quote.bid_quantity) == (8, 8)
        assert (row.quote.ask_remaining, row.quote.ask_quantity) == (9, 10)
        assert row.quote.expires_at == NOW + timedelta(seconds=30)

    def test_a_quote_is_filled_away_when_nothing_remains_on_either_side(self, board: Board) -> None:
        board.apply_quote(1, quote_activated())
        board.apply_fills("AAA", 2, [recorded_fill(remaining_bid_quantity=0, remaining_ask_quantity=3)])
        assert row_of(board).quote_state == "active"

        board.apply_fills("AAA", 3, [recorded_fill(number=2, remaining_bid_quantity=0, remaining_ask_quantity=0)])
        assert row_of(board).quote_state == "filled_away"

    def test_a_withdrawn_quote_is_gone(self, board: Board) -> None:
        board.apply_quote(1, quote_activated())
        board.apply_quote(2, withdrawn())

        row = row_of(board)
        assert (row.quote_state, row.quote) == ("withdrawn", None)

    def test_a_quote_whose_expiry_is_in_the_log_has_expired(self, board: Board) -> None:
        board.apply_quote(1, quote_activated())
        board.apply_quote(2, msgspec.structs.replace(withdrawn(), reason="expired"))

        row = row_of(board)
        assert (row.quote_state, row.quote) == ("expired", None)

    def test_the_last_message_of_each_subject_is_enough_whichever_came_first(self, board: Board) -> None:
        """At start the fills may be older than the quote: the quote is whole again then."""
        board.apply_fills("AAA", 4, [recorded_fill(number=9, remaining_bid_quantity=1, remaining_ask_quantity=2)])
        board.apply_quote(5, quote_activated(position_version=9))

        quote = row_of(board).quote
        assert quote is not None
        assert (quote.bid_remaining, quote.ask_remaining) == (10, 10)

    def test_messages_that_were_folded_before_change_nothing(self, board: Board) -> None:
        board.apply_quote(5, quote_activated())
        board.take_changed()

        board.apply_quote(5, quote_activated(position_version=1))
        board.apply_fills("AAA", 4, [recorded_fill()])

        assert board.take_changed() == []

    @pytest.mark.parametrize(("quote_id", "derived"), [("AAA-v3-a2", True), ("AAA-v3-a1", False), ("by-hand-1", False)])
    def test_a_quote_is_derived_if_its_id_is_the_one_that_makers_give_it(
        self, board: Board, quote_id: str, derived: bool
    ) -> None:
        board.apply_quote(1, quote_activated(quote_id=quote_id, position_version=3, attempt=2))

        quote = row_of(board).quote
        assert quote is not None
        assert (quote.position_version, quote.attempt, quote.derived) == (3, 2, derived)


class TestFills:
    def test_each_fill_is_taken_once(self, board: Board) -> None:
        board.apply_fills("AAA", 1, [recorded_fill(number=1), recorded_fill(number=2, side="sell", quantity=4)])

        taken = board.take_fills()
        assert [(fill.symbol, fill.number, fill.side, fill.quantity) for fill in taken] == [
            ("AAA", 1, "buy", 1),
            ("AAA", 2, "sell", 4),
        ]
        assert board.take_fills() == []

    def test_a_fill_that_was_folded_before_is_ignored(self, board: Board) -> None:
        board.apply_fills("AAA", 1, [recorded_fill()])
        board.take_fills()

        board.apply_fills("AAA", 1, [recorded_fill()])

        assert board.take_fills() == []

    def test_a_message_with_many_fills_yields_only_the_newest(self, board: Board) -> None:
        board.apply_fills("AAA", 1, [recorded_fill(number=number) for number in range(1, 2 * FILLS_KEPT + 1)])

        assert [fill.number for fill in board.take_fills()] == list(range(FILLS_KEPT + 1, 2 * FILLS_KEPT + 1))


class TestHistory:
    def test_points_that_come_quickly_replace_the_last_one(self, board: Board, clock: ManualClock) -> None:
        for version, (net, pause) in enumerate([(1, 0.0), (2, 0.6), (3, 0.1), (4, 0.1), (5, 0.6)], start=1):
            board.apply_position(position_update(net_quantity=net, position_version=version), clock.advance(pause))

        assert board.history()["AAA"] == [1, 4, 5]

    def test_only_the_newest_points_are_kept(self, board: Board, clock: ManualClock) -> None:
        for version in range(1, HISTORY_POINTS + 11):
            board.apply_position(position_update(net_quantity=version, position_version=version), clock.advance(1))

        assert board.history()["AAA"] == list(range(11, HISTORY_POINTS + 11))

    def test_a_first_fill_that_is_seen_live_starts_from_flat(self, current: Board) -> None:
        current.apply_position(position_update(net_quantity=3, position_version=1), NOW)

        assert current.history()["AAA"] == [0, 3]


class TestSources:
    def test_nothing_is_current_at_first(self, board: Board) -> None:
        status = board.status(NOW)
        assert not any(source.current for source in (status.positions, status.market, status.exposure))
        assert status.usage is None
        assert not board.complete

    def test_the_board_is_complete_once_positions_and_market_were_current(self, board: Board) -> None:
        """Before that, a position that is not read yet would look flat. A stale source does not undo it."""
        board.set_source("positions", NOW)
        assert not board.complete
        board.set_source("market", NOW)
        board.set_source("positions", NOW, stale="gone")
        assert board.complete

    def test_a_source_shows_since_when_it_is_stale(self, current: Board, clock: ManualClock) -> None:
        lost = clock.advance(5)
        current.set_source("market", lost, stale="shard 1")
        current.set_source("market", clock.advance(5), stale="shard 1, 2")

        market = current.status(clock()).market
        assert (market.current, market.since, market.detail) == (False, lost, "shard 1, 2")

        back = clock.advance(5)
        current.set_source("market", back)
        assert current.status(back).market.since == back

    def test_usage_is_unknown_while_the_exposure_service_does_not_answer(self, current: Board) -> None:
        used = LimitUsage(limit=100, bid=SideUsage(used=80, free=20), ask=SideUsage(used=100, free=0), live=7)
        current.set_usage(used, NOW)
        usage = current.status(NOW).usage
        assert usage is not None
        assert (usage.limit, usage.bid, usage.ask) == (100, 80, 100)

        current.lose_usage("nobody answers", NOW)
        assert current.status(NOW).usage is None
        assert current.status(NOW).exposure.detail == "nobody answers"


class TestLedgerLag:
    """The positions of a ledger that has stopped are wrong, although their stream is complete."""

    def lags(self, board: Board, clock: ManualClock) -> bool:
        return not board.status(clock()).positions.current

    def test_a_fill_that_stays_unapplied_makes_positions_stale(self, current: Board, clock: ManualClock) -> None:
        current.apply_fills("AAA", 1, [recorded_fill(number=1), recorded_fill(number=2)])
        since = clock()
        assert not self.lags(current, clock)

        clock.advance(LAG_TOLERANCE.total_seconds() + 0.1)

        positions = current.status(clock()).positions
        assert (positions.current, positions.since) == (False, since)
        assert "2 recorded fills" in positions.detail

    def test_a_ledger_that_keeps_up_under_steady_fills_is_current(self, current: Board, clock: ManualClock) -> None:
        """It always lags by a fill, but never by the same one."""
        for number in range(1, 20):
            current.apply_fills("AAA", number, [recorded_fill(number=number)])
            assert not self.lags(current, clock)
            clock.advance(0.5)
            current.apply_position(position_update(position_version=number - 1), clock())
            assert not self.lags(current, clock)

    def test_catching_up_makes_positions_current_again(self, current: Board, clock: ManualClock) -> None:
        current.apply_fills("AAA", 1, [recorded_fill()])
        current.status(clock())
        clock.advance(10)
        assert self.lags(current, clock)

        current.apply_position(position_update(net_quantity=-1, position_version=1), clock())

        assert not self.lags(current, clock)


class TestMoney:
    """The reference price of AAA is 100.00, and so is the mid of its quote, unless a test changes them."""

    BOUGHT = position_update(
        net_quantity=4,
        position_version=1,
        cash=Decimal("-396.5"),
        average_price=Decimal(99),
        realized=Decimal("-0.5"),
        fees=Decimal("0.5"),
        volume=4,
        multiplier=Decimal(1),
    )

    def test_profit_is_shown_at_the_mid_of_the_quote_and_at_the_reference_price(self, current: Board) -> None:
        current.apply_position(self.BOUGHT, NOW)
        current.apply_quote(1, quote_activated(bid_price=Decimal("101.00"), ask_price=Decimal("101.01")))
        money = row_of(current).money
        assert money is not None
        assert money.at_quote == Marked(mark=Decimal("101.005"), unrealized=Decimal("8.02"), total=Decimal("7.52"))
        assert money.at_reference == Marked(mark=Decimal(100), unrealized=Decimal(4), total=Decimal("3.5"))
        assert (money.average_price, money.fees, money.volume) == (Decimal(99), Decimal("0.5"), 4)

    def test_profit_uses_the_multiplier_of_the_last_fill(self, current: Board) -> None:
        current.apply_position(
            replace(self.BOUGHT, cash=Decimal(-3960), realized=Decimal(0), multiplier=Decimal(10)), NOW
        )
        money = row_of(current).money
        assert money is not None
        assert money.at_reference == Marked(mark=Decimal(100), unrealized=Decimal(40), total=Decimal(40))

    @pytest.mark.parametrize("end", [withdrawn(), quote_activated(bid_quantity=0, bid_price=Decimal(0))])
    def test_a_withdrawn_quote_or_one_with_one_side_gives_no_mark(self, current: Board, end: QuoteEvent) -> None:
        current.apply_position(self.BOUGHT, NOW)
        current.apply_quote(1, quote_activated())
        current.apply_quote(2, end)
        money = row_of(current).money
        assert money is not None
        assert money.at_quote is None
        assert money.at_reference is not None

    def test_an_old_update_without_money_shows_none(self, current: Board) -> None:
        current.apply_position(position_update(net_quantity=4, position_version=1), NOW)
        assert row_of(current).money is None

    def test_profit_is_zero_before_the_first_fill_and_unknown_until_the_ledger_applies_it(self, current: Board) -> None:
        current.apply_quote(1, quote_activated())
        money = row_of(current).money
        assert money is not None
        assert money.at_quote == Marked(mark=Decimal(100), unrealized=Decimal(0), total=Decimal(0))
        current.apply_fills("AAA", 2, [recorded_fill()])
        assert row_of(current).money is None

    def test_the_total_profit_is_the_sum_of_the_rows_and_unknown_while_they_are_not_current(
        self, current: Board, clock: ManualClock
    ) -> None:
        current.apply_position(self.BOUGHT, NOW)
        current.apply_position(replace(self.BOUGHT, symbol="BBB", net_quantity=0, realized=Decimal("1.25")), NOW)
        current.apply_quote(1, quote_activated(bid_price=Decimal("101.00"), ask_price=Decimal("101.01")))
        assert current.take_profit(NOW) == 0  # no row was taken
        flat = Decimal("-396.5")  # BBB's profit: its cash
        current.take_changed()
        assert current.take_profit(NOW) == Decimal("7.52") + flat
        clock.advance(31)
        assert current.take_profit(clock()) == Decimal("3.5") + flat
        current.set_source("market", clock(), stale="not received")
        assert current.take_profit(clock()) is None

    def test_recent_profits_are_kept_if_they_change(self, current: Board, clock: ManualClock) -> None:
        for version in range(1, 200):
            realized = Decimal(version).scaleb(-1)
            update = replace(self.BOUGHT, net_quantity=0, position_version=version, realized=realized, cash=realized)
            current.apply_position(update, clock())
            current.take_changed()
            for _ in range(2):
                current.take_profit(clock())
            clock.advance(5)
        kept = current.profits()
        assert kept.keys() == {"AAA"}  # that of BBB has not changed
        assert len(kept["AAA"]) == PROFIT_POINTS
        assert kept["AAA"][-1] == 19.9
        apart = {round(after - before, 2) for before, after in pairwise(kept["AAA"][:-1])}
        assert apart == {0.2}  # what it gained in 10 seconds

    def test_money_is_exact_for_the_longest_valid_update(self, current: Board) -> None:
        """Every field has the most digits that are valid."""
        long = "9" * 50 + "." + "9" * 50
        price = Decimal("999999999." + "9" * 15)
        update = (
            f'{{"symbol":"AAA","net_quantity":{2**53},"position_version":1,"cash":"-{long}","average_price":"{long}",'
            f'"realized":"{long}","fees":"{long}","volume":{2**53},"multiplier":"999999.999999"}}'
        )
        current.apply_position(msgspec.json.decode(update, type=PositionUpdate), NOW)
        current.apply_quote(1, quote_activated(bid_price=Decimal("0.000001"), ask_price=price))
        assert row_of(current).money is not None
        update = '{"symbol":"AAA","net_quantity":1,"position_version":1,"multiplier":"'
        for multiplier in ("0", "-1", "9" * 50 + "." + "9" * 50, "0.0000001"):
            with pytest.raises(msgspec.ValidationError, match="multiplier"):
                msgspec.json.decode(f'{update}{multiplier}"}}', type=PositionUpdate)

    def test_a_symbol_that_is_not_configured_has_no_reference_price(self, current: Board) -> None:
        current.apply_position(replace(self.BOUGHT, symbol="GONE"), NOW)
        money = row_of(current, "GONE").money
        assert money is not None
        assert (money.at_quote, money.at_reference) == (None, None)
