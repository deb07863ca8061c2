"""The plan: what is due, what delays it, and that undisturbed makers converge on one quote."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from maker.plan import (
    FIRST_DELAY,
    LEDGER_TIMEOUT,
    MAX_DELAY,
    MAX_REVISIONS,
    Memory,
    Propose,
    Step,
    Trigger,
    View,
    Wait,
    Withdraw,
    basis,
    decide,
    delay,
    due,
    live_quote,
    obsolete_reason,
    predicted_position,
)
from support.builders import NOW, instrument, quote_activated, recorded_fill
from wire import ids
from wire.ids import QuoteVersion
from wire.instruments import Listing
from wire.market import SymbolMarket
from wire.positions import Position
from wire.quotes import ATTEMPTS_AHEAD, QuoteActivated, QuoteWithdrawn

NO_STANDBY = timedelta(0)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def view(position_version: int | None = None, **changes: Any) -> View:
    """Return a view of AAA with current feeds, a position of that version or none, and an empty market log."""
    position = None
    if position_version is not None:
        position = Position(symbol="AAA", net_quantity=0, position_version=position_version)
    return View(**({"market": SymbolMarket("AAA"), "position": position, "current": True} | changes))


def activated(
    of: View, version: int, attempt: int, *, revision: int = 0, when: float = 0.0, lifetime: float = 30.0
) -> View:
    """Fold the activation of a quote."""
    event = quote_activated(
        position_version=version, revision=revision, attempt=attempt, activated_at=at(when), lifetime=lifetime
    )
    of.market.apply_quote(of.market.head + 1, event)
    return of


def withdrawn(of: View) -> View:
    """Fold the withdrawal of the latest quote."""
    event = of.market.event
    assert event is not None
    of.market.apply_quote(
        of.market.head + 1,
        QuoteWithdrawn(
            symbol="AAA",
            quote_id=event.quote_id,
            reservation_id=event.reservation_id,
            **event.version._asdict(),
            withdrawn_at=NOW,
        ),
    )
    return of


def filled(of: View, number: int, *, bid: int = 10, ask: int = 9, when: float = 0.0) -> View:
    """Fold a fill that leaves these quantities."""
    fill = recorded_fill(number=number, remaining_bid_quantity=bid, remaining_ask_quantity=ask)
    of.market.apply_fills(of.market.head + 1, [fill])
    of.filled_at = at(when)
    return of


def published(memory: Memory, version: int, attempt: int, *, lifetime: float = 30.0) -> Memory:
    """Record the exchange's reply that this maker's quote is active."""
    market = SymbolMarket("AAA")
    market.apply_quote(1, quote_activated(position_version=version, attempt=attempt, lifetime=lifetime))
    quote = market.quote()
    assert quote is not None
    memory.succeeded(quote)
    return memory


def step(of: View, seconds: float = 0.0, memory: Memory | None = None, standby: float = 0.0) -> Step:
    return decide(of, memory or Memory(), at(seconds), timedelta(seconds=standby))


def proposed(of: Step) -> tuple[int, int, Trigger, str | None]:
    """Return a proposal as (position version, attempt, trigger, replaces)."""
    assert isinstance(of, Propose)
    return (of.version.position_version, of.version.attempt, of.trigger, of.replaces)


# --- what is due --------------------------------------------------------------------------------------------------

DUE = {
    "nothing was ever quoted": (view(0), 0, (0, 1, "first", None)),
    "no position was ever published, nothing was ever filled": (view(None), 0, (0, 1, "first", None)),
    "a live quote is of an older position": (activated(view(7), 5, 3), 0, (7, 1, "position", "AAA-v5-a3")),
    "a dead quote is of an older position": (activated(view(7), 5, 3), 99, (7, 1, "position", "AAA-v5-a3")),
    "two thirds of its life are over": (activated(view(5), 5, 3), 20, (5, 4, "refresh", "AAA-v5-a3")),
    "it has expired": (activated(view(5), 5, 3), 30, (5, 4, "expired", "AAA-v5-a3")),
    "it was withdrawn": (withdrawn(activated(view(5), 5, 3)), 1, (5, 4, "withdrawn", "AAA-v5-a3")),
    "a live quote is by an older revision": (
        activated(view(5, revision=57), 5, 3, revision=50),
        0,
        (5, 1, "revision", "AAA-v5-r50-a3"),
    ),
    "both are older": (activated(view(7, revision=57), 5, 3, revision=50), 0, (7, 1, "position", "AAA-v5-r50-a3")),
    "its revision is the newest, and it has expired": (
        activated(view(5, revision=57), 5, 3, revision=57),
        30,
        (5, 4, "expired", "AAA-v5-r57-a3"),
    ),
    "it was filled away": (
        filled(activated(view(5), 5, 3), 5, bid=0, ask=0),
        1,
        (5, 4, "exhausted", "AAA-v5-a3"),
    ),
}


@pytest.mark.parametrize("case", DUE)
def test_a_proposal_is_due_when(case: str) -> None:
    of, seconds, expected = DUE[case]
    assert proposed(step(of, seconds)) == expected


WAITS = {
    "a feed is not current": (view(0, current=False), 0, Wait("waiting_for_feeds")),
    "it was paused": (view(0, paused=True), 0, Wait("paused")),
    "its quote is live and of the newest position": (activated(view(5), 5, 3), 10, Wait("quoting", at(20))),
    "one side of its quote is left": (
        filled(activated(view(5), 5, 3), 5, bid=0, ask=1),
        10,
        Wait("quoting", at(20)),
    ),
    "its quote is of a position that is not known here yet": (
        activated(view(5), 6, 1),
        0,
        Wait("waiting_for_position"),
    ),
    "even the dead quote is of a position that is not known here yet": (
        activated(view(5), 6, 1),
        99,
        Wait("waiting_for_position"),
    ),
    "its quote is by a revision that is not known here yet": (
        activated(view(5, revision=50), 5, 1, revision=57),
        99,
        Wait("waiting_for_instrument"),
    ),
    "its instrument is to be closed, and it is flat": (view(5, state="close_only", priced=False), 0, Wait("closed")),
    "its instrument is paused": (view(5, state="paused"), 0, Wait("symbol_paused")),
    "its instrument is delisted": (withdrawn(activated(view(6, state="delisted"), 5, 1)), 0, Wait("delisted")),
    "there are fills, but no position was ever published": (
        filled(view(None), 1),
        99,
        Wait("waiting_for_position"),
    ),
    "a fill has just used up its quote": (
        filled(activated(view(5), 5, 3), 6, bid=0, ask=0, when=1),
        1,
        Wait("waiting_for_position", at(1) + LEDGER_TIMEOUT),
    ),
}


@pytest.mark.parametrize("case", WAITS)
def test_nothing_is_done_when(case: str) -> None:
    of, seconds, expected = WAITS[case]
    assert step(of, seconds) == expected


def test_the_wait_for_a_lagging_ledger_is_bounded() -> None:
    lagging = filled(activated(view(5), 5, 3), 6, bid=0, ask=0, when=1)
    assert proposed(step(lagging, 1 + LEDGER_TIMEOUT.total_seconds()))[:3] == (5, 4, "exhausted")


def test_the_exchanges_reply_counts_before_the_market_feed_shows_the_quote() -> None:
    assert step(view(0), memory=published(Memory(), 0, 1)) == Wait("quoting", at(20))


def test_the_market_feed_counts_once_it_has_caught_up() -> None:
    memory = published(Memory(), 0, 1)
    assert proposed(step(withdrawn(activated(view(0), 0, 1)), memory=memory))[1:3] == (2, "withdrawn")


# --- what holds it back -------------------------------------------------------------------------------------------


def test_a_dead_attempt_is_skipped() -> None:
    memory = Memory()
    memory.abandoned(QuoteVersion(5, 0, 4))
    assert proposed(step(activated(view(5), 5, 3), 25, memory))[:2] == (5, 5)
    assert proposed(step(view(6), memory=memory))[:2] == (6, 1)


def test_a_failure_backs_off_and_then_makes_the_same_attempt() -> None:
    memory = Memory()
    until = memory.failed((0, 0), at(0), jitter=1.0)
    assert step(view(0), memory=memory) == Wait("backing_off", until)
    assert proposed(decide(view(0), memory, until, NO_STANDBY))[:2] == (0, 1)


def test_a_newer_position_ends_the_backing_off() -> None:
    memory = Memory()
    for _ in range(8):
        memory.failed((0, 0), at(0), jitter=1.0)
    assert proposed(step(view(1), memory=memory))[:2] == (1, 1)
    assert memory.failed((1, 0), at(0), jitter=1.0) == at(FIRST_DELAY)


def test_a_newer_revision_ends_the_backing_off() -> None:
    memory = Memory()
    for _ in range(8):
        memory.failed((0, 0), at(0), jitter=1.0)
    assert proposed(step(view(0, revision=57), memory=memory))[:2] == (0, 1)


@pytest.mark.parametrize("state", ["paused", "delisted"])
def test_the_quote_of_a_paused_or_delisted_instrument_is_withdrawn_whoever_made_it(state: str) -> None:
    event = quote_activated(quote_id="by-hand", position_version=5)
    of = view(5, state=state)
    of.market.apply_quote(1, event)
    assert step(of) == Withdraw("by-hand")


def test_success_ends_the_backing_off() -> None:
    memory = Memory()
    for _ in range(8):
        memory.failed((0, 0), at(0), jitter=1.0)
    published(memory, 0, 1)
    assert memory.failed((0, 0), at(0), jitter=1.0) == at(FIRST_DELAY)


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_delays_double_up_to_a_bound_and_jitter_takes_at_most_half(failures: int, jitter: float) -> None:
    whole = delay(failures, 1.0)
    assert whole == min(MAX_DELAY, FIRST_DELAY * 2.0 ** min(failures - 1, 20))
    assert whole / 2 <= delay(failures, jitter) <= whole


def test_a_spare_waits_for_the_first_maker() -> None:
    memory, stale = Memory(), activated(view(1), 0, 1)
    assert step(stale, 0, memory, standby=1) == Wait("standing_by", at(1))
    assert step(stale, 0.5, memory, standby=1) == Wait("standing_by", at(1))
    assert proposed(step(stale, 1, memory, standby=1))[:2] == (1, 1)


def test_a_spare_does_nothing_if_the_first_maker_has_quoted() -> None:
    memory, of = Memory(), activated(view(1), 0, 1)
    step(of, 0, memory, standby=1)
    activated(of, 1, 1, when=0.1)
    assert step(of, 1, memory, standby=1) == Wait("quoting", at(20.1))


def test_a_spares_wait_starts_again_whenever_another_maker_has_quoted() -> None:
    """Positions that change faster than a spare waits do not make it act while another maker quotes them."""
    memory, of = Memory(), view(0)
    for version in range(50):
        now = version * 0.1
        of.position = Position(symbol="AAA", net_quantity=0, position_version=version)
        assert isinstance(step(of, now, memory, standby=1), Wait)
        activated(of, version, 1, when=now)


def test_a_spares_wait_does_not_start_again_for_a_position_while_nobody_quotes() -> None:
    memory, of = Memory(), activated(view(0), 0, 1)
    for version in range(1, 11):
        of.position = Position(symbol="AAA", net_quantity=0, position_version=version)
        assert isinstance(step(of, version * 0.1, memory, standby=1), Wait)
    assert proposed(step(of, 1.1, memory, standby=1))[:2] == (10, 1)


def test_a_spare_waits_for_the_longer_of_standing_by_and_backing_off() -> None:
    memory = Memory()
    step(view(0), 0, memory, standby=1)
    for _ in range(8):
        until = memory.failed((0, 0), at(0), jitter=1.0)
    assert step(view(0), 2, memory, standby=1) == Wait("backing_off", until)
    assert proposed(step(view(0), MAX_DELAY, memory, standby=1))[:2] == (0, 1)


# --- paused -------------------------------------------------------------------------------------------------------


def test_a_quote_of_ours_that_became_active_late_is_withdrawn() -> None:
    memory = Memory(sent={"AAA-v0-a1"})
    assert step(activated(view(0, paused=True), 0, 1), memory=memory) == Withdraw("AAA-v0-a1")


def live(quote_id: str = "AAA-v0-a1", **changes: Any) -> View:
    """Return a view with a live quote of version 0, attempt 1, and that id."""
    of = view(0, market_current=True, **changes)
    of.market.apply_quote(1, quote_activated(quote_id=quote_id, activated_at=at(0), lifetime=30.0))
    return of


STATES: dict[str, tuple[View, Memory, Step]] = {
    # the switch
    "paused, nothing swept yet": (live(paused=True, episode=1), Memory(), Withdraw("AAA-v0-a1")),
    "paused, and never quoted": (view(0, paused=True, episode=1), Memory(), Withdraw("AAA-v0-a1")),
    "paused, by hand before": (live("by-hand", paused=True, episode=1), Memory(), Withdraw("by-hand")),
    "paused, by hand since": (live("by-hand", paused=True, episode=1), Memory(swept=1), Wait("paused")),
    "paused, by a maker since": (live(paused=True, episode=1), Memory(swept=1), Withdraw("AAA-v0-a1")),
    "paused, by us since": (live("x", paused=True, episode=1), Memory(swept=1, sent={"x"}), Withdraw("x")),
    "paused again": (live("by-hand", paused=True, episode=2), Memory(swept=1), Withdraw("by-hand")),
    "paused, and withdrawn": (live(paused=True, episode=1), Memory(swept=1, withdrawn_id="AAA-v0-a1"), Wait("paused")),
    "paused, without feeds": (live(paused=True, episode=1, current=False), Memory(), Withdraw("AAA-v0-a1")),
    "the switch not read": (live(current=False), Memory(), Wait("waiting_for_feeds")),
    # stopping
    "stopping, ours": (live(stopping=True), Memory(sent={"AAA-v0-a1"}), Withdraw("AAA-v0-a1")),
    "stopping, not ours": (live(stopping=True), Memory(), Wait("stopped")),
    "stopping, paused": (live(stopping=True, paused=True, episode=1), Memory(), Wait("stopped")),
    # no price
    "no price, of this position": (live(priced=False), Memory(), Withdraw("AAA-v0-a1")),
    "no price, by hand": (live("by-hand", priced=False), Memory(), Wait("no_price")),
    "no price, nothing stands": (view(0, priced=False), Memory(), Wait("no_price")),
    "no price, withdrawn": (live(priced=False), Memory(withdrawn_id="AAA-v0-a1"), Wait("no_price")),
    "no price, without feeds": (live(priced=False, current=False), Memory(), Wait("waiting_for_feeds")),
}


@pytest.mark.parametrize("name", STATES)
def test_which_active_quotes_are_withdrawn_while_nothing_may_be_quoted(name: str) -> None:
    of, memory, wanted = STATES[name]
    assert step(of, 1.0, memory) == wanted


@pytest.mark.parametrize("quote_id", ["AAA-v0-a1", "by-hand"])
def test_without_a_price_a_quote_of_an_older_position_is_withdrawn(quote_id: str) -> None:
    of = live(quote_id, priced=False)
    of.position = Position(symbol="AAA", net_quantity=20_000, position_version=1)
    assert step(of, 1.0) == Withdraw(quote_id)


# --- giving up ----------------------------------------------------------------------------------------------------


def propose(version: int, attempt: int, revision: int = 0) -> Propose:
    return Propose(Position(symbol="AAA", net_quantity=0, position_version=version), attempt, "first", None, revision)


def test_fills_lead_to_the_position_that_the_ledger_will_commit() -> None:
    fills = [recorded_fill(number=6, quantity=3), recorded_fill(number=7, side="sell", quantity=5)]
    position = predicted_position(view(5), fills)
    assert position is not None
    assert (position.net_quantity, position.position_version, position.last_fill_id) == (2, 7, fills[-1].fill_id)
    first = predicted_position(view(), [recorded_fill(number=1)])
    assert first is not None
    assert (first.net_quantity, first.position_version) == (-1, 1)


@pytest.mark.parametrize(
    "of",
    [
        pytest.param(view(4), id="fills in between"),
        pytest.param(view(6), id="committed already"),
        pytest.param(view(), id="position not known"),
        pytest.param(view(5, current=False), id="feeds behind"),
        pytest.param(view(5, paused=True), id="paused"),
    ],
)
def test_no_position_is_predicted(of: View) -> None:
    assert predicted_position(of, [recorded_fill(number=6)]) is None


def test_an_attempt_continues_until_it_is_obsolete() -> None:
    assert obsolete_reason(view(5), propose(5, 1), NOW) is None
    assert obsolete_reason(activated(view(5), 5, 1), propose(5, 2), NOW) is None


def test_an_attempt_is_not_given_up_because_feeds_are_not_current() -> None:
    assert obsolete_reason(view(5, current=False), propose(5, 1), NOW) is None


@pytest.mark.parametrize(
    ("of", "why"),
    [
        (view(5, paused=True), "paused"),
        (view(6), "there is a newer position"),
        (view(5, revision=1), "the instrument was changed"),
        (view(5, state="paused"), "the instrument was changed"),
        (activated(view(5), 5, 2), "its quote, or a newer one, is in the market log"),
        (activated(view(5), 6, 1), "its quote, or a newer one, is in the market log"),
        (withdrawn(activated(view(5), 5, 2)), "its quote, or a newer one, is in the market log"),
    ],
)
def test_an_attempt_is_given_up_when(of: View, why: str) -> None:
    assert obsolete_reason(of, propose(5, 2), NOW) == why


# --- how old reference prices are ---------------------------------------------------------------------------------


def fresh(of: View, **until: float) -> View:
    """Set until when the reference prices of revisions (such as `r50`) are fresh."""
    of.fresh_until = {int(name[1:]): at(when) for name, when in until.items()}
    return of


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        pytest.param(
            fresh(activated(view(5, revision=50), 5, 1, revision=50), r50=3), Wait("quoting", at(3)), id="it is fresh"
        ),
        pytest.param(
            fresh(activated(view(5, revision=50), 5, 1, revision=50), r50=99), Wait("quoting", at(20)), id="for long"
        ),
        pytest.param(
            fresh(activated(view(5, revision=50), 5, 1, revision=50), r50=1), Withdraw("AAA-v5-r50-a1"), id="it is not"
        ),
        pytest.param(
            fresh(activated(view(6, revision=60), 5, 1, revision=50), r50=99, r60=1),
            Withdraw("AAA-v5-r50-a1"),
            id="the newest is not",
        ),
        pytest.param(
            fresh(activated(view(5, revision=60), 5, 1, revision=50), r50=1, r60=99),
            Withdraw("AAA-v5-r50-a1"),
            id="the newest is, and not the one that is quoted",
        ),
        pytest.param(
            fresh(activated(view(None, revision=50), 5, 1, revision=50), r50=1),
            Withdraw("AAA-v5-r50-a1"),
            id="the position is not known",
        ),
        pytest.param(
            fresh(activated(view(5, revision=50), 5, 1, revision=60), r50=1),
            Wait("waiting_for_instrument"),
            id="a newer one is quoted already",
        ),
        pytest.param(fresh(view(5, revision=50), r50=1), Wait("no_reference"), id="nothing is quoted"),
        pytest.param(
            fresh(withdrawn(activated(view(5, revision=50), 5, 1, revision=50)), r50=1),
            Wait("no_reference"),
            id="it was withdrawn",
        ),
    ],
)
def test_a_quote_around_an_old_reference_price_is_withdrawn(of: View, expected: Step) -> None:
    assert step(of, 1.0) == expected


def test_a_fresh_reference_price_is_quoted_at_once() -> None:
    of = fresh(withdrawn(activated(view(5, revision=50), 5, 1, revision=50)), r50=1)
    assert step(of, 1.0) == Wait("no_reference")
    of.relist(Listing(instrument(reference_ttl=2.0), 10, 50, None, None, at(0.5)))
    assert proposed(step(of, 1.0)) == (5, 2, "withdrawn", "AAA-v5-r50-a1")
    assert obsolete_reason(of, propose(5, 2, revision=50), at(2.5)) == "the reference price is too old"


def test_with_a_reference_ttl_a_price_that_no_feed_has_sent_is_stale() -> None:
    of = view(5)
    of.relist(Listing(instrument(reference_ttl=2.0), 10, 50))
    assert step(of) == Wait("no_reference")
    of.relist(Listing(instrument(), 10, 51))
    assert proposed(step(of)) == (5, 1, "first", None)


def test_of_very_many_revisions_the_quoted_one_and_the_newest_are_remembered() -> None:
    of = activated(view(5), 5, 1, revision=50)
    for revision in range(50, 1000):
        of.relist(Listing(instrument(reference_ttl=2.0), 10, revision, None, None, at(revision)))
    assert len(of.fresh_until) <= MAX_REVISIONS
    assert (of.fresh_until[50], of.fresh_until[999]) == (at(52), at(1001))


# --- properties ---------------------------------------------------------------------------------------------------


@st.composite
def situations(draw: st.DrawFn) -> tuple[View, Memory, datetime]:
    """Generate any history: quotes of any version, live or not, fills, failures, dead attempts, replies."""
    versions = st.integers(0, 4)
    revisions = st.integers(0, 2)
    of = view(
        draw(st.none() | versions),
        current=draw(st.booleans()),
        paused=draw(st.booleans()),
        revision=draw(revisions),
        state=draw(st.sampled_from(["trading", "trading", "paused", "close_only", "delisted"])),
        fresh_until=draw(st.dictionaries(revisions, st.floats(0, 90).map(at), max_size=2)),
    )
    if draw(st.booleans()):
        lifetime = draw(st.sampled_from([0.5, 5.0, 30.0]))
        activated(of, draw(versions), draw(st.integers(1, 3)), revision=draw(revisions), lifetime=lifetime)
        if draw(st.booleans()):
            filled(of, draw(st.integers(1, 5)), bid=draw(st.integers(0, 1)), ask=draw(st.integers(0, 1)))
        if draw(st.booleans()):
            withdrawn(of)
    memory = Memory()
    if draw(st.booleans()):
        published(memory, draw(versions), draw(st.integers(1, 3)))
        # The exchange makes no quote active after one of a newer revision, however new its position is.
        own = memory.published
        assume(own is None or own.version <= of.market.version or own.revision >= of.market.version.revision)
    if draw(st.booleans()):
        memory.abandoned(QuoteVersion(draw(versions), draw(revisions), draw(st.integers(1, 3))))
    if draw(st.booleans()):
        memory.failed((draw(versions), draw(revisions)), NOW, draw(st.floats(0, 1)))
    return of, memory, at(draw(st.floats(0, 60)))


@given(situations())
def test_a_proposal_is_of_the_newest_position_and_newer_than_any_quote_or_dead_attempt(
    situation: tuple[View, Memory, datetime],
) -> None:
    """So the exchange has no reason to refuse it as stale, as far as the maker knows (I10)."""
    of, memory, now = situation
    chosen = decide(of, memory, now, NO_STANDBY)
    if isinstance(chosen, Propose):
        assert chosen.position.position_version == (of.position.position_version if of.position else 0)
        assert chosen.version > of.market.version
        assert chosen.revision == of.revision >= of.market.version.revision
        assert of.state not in ("paused", "delisted")
        if basis(memory.dead) == basis(chosen.version):
            assert chosen.version > memory.dead
        assert of.current
        assert not of.paused
        assert obsolete_reason(of, chosen, now) is None


@given(situations())
def test_a_wait_ends_after_now_and_deciding_again_changes_nothing(situation: tuple[View, Memory, datetime]) -> None:
    of, memory, now = situation
    chosen = decide(of, memory, now, timedelta(seconds=1))
    assert decide(of, memory, now, timedelta(seconds=1)) == chosen
    if isinstance(chosen, Wait) and chosen.until is not None:
        assert chosen.until > now


@given(situations(), st.lists(st.sampled_from([0.0, 0.3, 1.0]), min_size=2, max_size=4))
def test_makers_with_the_same_view_converge_on_one_live_quote(
    situation: tuple[View, Memory, datetime], standbys: list[float]
) -> None:
    """Each proposal that is newer than the latest quote becomes active, as at an exchange."""
    of, _, now = situation
    of.current, of.paused, of.state = True, False, "trading"
    of.fresh_until = {}
    of.revision = max(of.revision, of.market.version.revision)
    versions = [of.market.event.position_version if of.market.event else 0, of.market.fill_number]
    of.position = Position(symbol="AAA", net_quantity=0, position_version=max(versions))
    later = now + timedelta(seconds=3)
    first = due(of, Memory(), now)
    assume(
        not isinstance(first, Wait) or first.until is None or first.until > later
    )  # otherwise a refresh is rightly due
    memories = [Memory() for _ in standbys]
    events = 0
    for tick in range(30):
        moment = now + timedelta(seconds=tick * 0.1)
        steps = [decide(of, m, moment, timedelta(seconds=s)) for m, s in zip(memories, standbys, strict=True)]
        for chosen in steps:
            if isinstance(chosen, Propose) and chosen.version > of.market.version:
                event = _activation(chosen, moment)
                of.market.apply_quote(of.market.head + 1, event)
                events += 1
    assert events <= 1
    assert live_quote(of, Memory(), later) is not None
    assert {due(of, m, later) for m in memories} == {due(of, Memory(), later)}
    assert isinstance(due(of, Memory(), later), Wait)


def _activation(chosen: Propose, moment: datetime) -> QuoteActivated:
    activation = quote_activated(**chosen.version._asdict(), activated_at=moment)
    assert activation.quote_id == chosen.quote_id == ids.quote_id("AAA", chosen.version)
    return activation


@pytest.mark.parametrize("latest", [1, 1000, 2**31, 2**40])
def test_the_attempt_after_any_latest_one_is_proposed_and_permitted(latest: int) -> None:
    """Even after a quote by hand: the exchange accepts an attempt that is not far beyond the latest."""
    seen = withdrawn(activated(view(7), 7, latest))
    step = due(seen, Memory(), at(1))
    assert isinstance(step, Propose)
    assert step.version == (7, 0, latest + 1)
    moved = due(activated(view(8), 7, latest), Memory(), at(1))
    assert isinstance(moved, Propose)
    assert moved.version == (8, 0, 1)


@pytest.mark.parametrize("quoted", [0, 5])
def test_after_very_many_dead_attempts_the_number_starts_again_within_reach(quoted: int) -> None:
    seen = view(7) if not quoted else withdrawn(activated(view(7), 7, quoted))
    memory = Memory(dead=QuoteVersion(7, 0, quoted + ATTEMPTS_AHEAD - 1))
    assert getattr(due(seen, memory, at(1)), "attempt", 0) == quoted + ATTEMPTS_AHEAD
    memory.abandoned(QuoteVersion(7, 0, quoted + ATTEMPTS_AHEAD))
    assert getattr(due(seen, memory, at(1)), "attempt", 0) == quoted + 1
