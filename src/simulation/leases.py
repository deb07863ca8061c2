"""The limit, lent to several exposure logs, in virtual time: whether it holds at every instant, and what lending costs.

Nothing of this runs in the system, which has one exposure log. It is the design for when one is not enough
(docs/capacity.md), simulated: a *lender* has the whole limit, *holders* divide the symbols, and each grants what its
lease lets it. One side of the limit is simulated; the other one is the same again.

The protocol:
- A holder asks once a `RENEW`, and says what it wants, which term it goes by, and how much it had granted when it began
  to. The lender answers with the next term: an amount, and until when. It is written, and counted, before it is sent.
- A holder grants no more in sum than the amount of the newest term it knows, and no quote that outlives that term. Its
  quotes count until they have been over for `GRACE`. A smaller amount ends no quote: it only lets no other symbol be
  quoted until enough have ended.
- The lender counts for each holder the largest of the terms that may be in force: those that have not been over for
  `GRACE`, but not those before the one that the holder says it goes by; and at least what it had granted then.
- No message is waited for: one that is lost, late or doubled leaves the lender counting too much, never too little.
- Clocks differ by less than `GRACE`, which covers two of them: the lender's, and that of whoever lets a quote expire.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from simulation.trace import Trace
from simulation.world import Clock, World

LEASE = 5.0
"""Seconds for which a term is lent."""

RENEW = 0.5
"""Seconds between two questions of a holder."""

GRACE = 2.0
"""Seconds after its end for which a term is counted."""

SKEW = 0.9
"""Seconds by which a clock may be wrong, at most: less than half of the grace."""

TTL = 30.0
"""Seconds that a quote lives, if its term lets it."""

SIZE = 10
"""Lots of a quote."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the parties keep to. Each is broken in turn to see that the check finds it.

    Attributes:
        grace: seconds after its end for which the lender counts a term.
        within: whether quotes end with the term they were granted in.
        remembers: whether the lender counts earlier terms that may still be in force.
    """

    grace: float = GRACE
    within: bool = True
    remembers: bool = True


@dataclass(frozen=True, slots=True)
class Case:
    """One simulation: who takes part, what they want, and what goes wrong.

    Attributes:
        demand: what all symbols together want on the average, as a multiple of the limit.
        faults: whether messages are lost, late and doubled, clocks differ, and parties stand still.
        cut: seconds after which one holder is cut off from the lender for good; None for never.
    """

    seed: int
    holders: int
    symbols: int = 960
    limit: int = 4_800
    demand: float = 1.0
    seconds: float = 120.0
    faults: bool = True
    cut: float | None = None
    rules: Rules = Rules()


@dataclass(slots=True)
class Outcome:
    """What came of it.

    Attributes:
        most: lots shown at once, at most.
        used: the share of what could have been shown that was, on the average.
        grants: quotes that were granted.
    """

    most: int = 0
    used: float = 0.0
    grants: int = 0


@dataclass(frozen=True, slots=True)
class _Term:
    number: int
    amount: int
    until: float


@dataclass(slots=True)
class _Account:
    """What the lender knows of a holder, all of it in its log."""

    terms: list[_Term] = field(default_factory=lambda: [_Term(0, 0, 0.0)])
    asked: int = 0
    adopted: int = 0
    held: int = 0
    wants: int = 0


class _Lender:
    def __init__(self, case: Case, clock: Callable[[], float]) -> None:
        self._case = case
        self._clock = clock
        self._accounts = [_Account() for _ in range(case.holders)]

    def ask(self, holder: int, number: int, adopted: int, held: int, wants: int) -> _Term | None:
        """Lend to a holder. None for a question that is not newer than another one."""
        account, rules = self._accounts[holder], self._case.rules
        if number <= account.asked:
            return None
        now = self._clock()
        account.asked, account.wants = number, wants
        if adopted > account.adopted:
            account.adopted, account.held = adopted, held
        newest = account.terms[-1]
        account.terms = [
            term for term in account.terms if term is newest or (term.number >= account.adopted and rules.remembers)
        ]
        free = self._case.limit - sum(self._counted(each, now) for each in self._accounts if each is not account)
        term = _Term(newest.number + 1, min(free, self._portion(account)), now + LEASE)
        account.terms.append(term)
        return term

    def _counted(self, account: _Account, now: float) -> int:
        """The most that a holder may show now."""
        alive = [term for term in account.terms if now <= term.until + self._case.rules.grace]
        if not alive:
            return 0
        terms = alive if self._case.rules.remembers else alive[-1:]
        return max(*(term.amount for term in terms), account.held if self._case.rules.remembers else 0)

    def _portion(self, account: _Account) -> int:
        """What a holder may have of the limit if all want more than there is: as much as any other one, and more if
        others want less."""
        left, others = self._case.limit, sorted(each.wants for each in self._accounts)
        for place, wants in enumerate(others):
            share = left // (len(others) - place)
            if wants >= share:
                return min(account.wants, share)
            left -= wants
        # All have what they want: what is over is lent in equal parts, for what comes next.
        return account.wants + left // len(others)


@dataclass(slots=True)
class _Holder:
    """One exposure log: its symbols, of which some want to be quoted, and what it has granted."""

    index: int
    symbols: list[int]
    clock: Clock
    term: _Term = _Term(0, 0, 0.0)
    asked: int = 0
    held_then: int = 0
    wanting: set[int] = field(default_factory=set)
    quotes: dict[int, float] = field(default_factory=dict)
    stalled: bool = False

    def held(self, now: float, grace: float) -> int:
        """Lots of the quotes that have not been over for the grace by this holder's clock: others' may be slower."""
        for symbol in [symbol for symbol, ends in self.quotes.items() if ends + grace < now]:
            del self.quotes[symbol]
        return SIZE * len(self.quotes)


class _Simulation:
    def __init__(self, case: Case) -> None:
        self.case = case
        self.world = World(case.seed, Trace())
        self.random = random.Random(f"leases/{case.seed}")
        self.outcome = Outcome()
        self._shown: dict[int, float] = {}  # each symbol's quote, and when the last clock will have it end
        self._potential = self._seen = 0.0
        lending = self._clock()
        self.lender = _Lender(case, lambda: self._time(lending))
        self.holders = [
            _Holder(index, list(range(index, case.symbols, case.holders)), self._clock())
            for index in range(case.holders)
        ]

    def run(self) -> Outcome:
        """All of it."""
        world = self.world
        for holder in self.holders:
            world.at(self.random.random() * RENEW, self._renew, holder)
            for symbol in holder.symbols:
                world.at(0.0, self._turn, holder, symbol)
                world.at(self.random.random(), self._quote, holder, symbol)
            if self.case.faults:
                world.after(self.random.expovariate(1 / 20), self._stall, holder)
        world.at(LEASE, self._sample)
        world.run(self.case.seconds)
        world.leave()
        self.outcome.used = self._seen / self._potential if self._potential else 0.0
        return self.outcome

    # --- the holders ----------------------------------------------------------------------------------------------

    def _turn(self, holder: _Holder, symbol: int) -> None:
        """A symbol wants to be quoted from now on, or not any more."""
        wanted = min(0.95, self.case.demand * self.case.limit / (SIZE * self.case.symbols))
        if self.random.random() < wanted:
            holder.wanting.add(symbol)
        else:
            holder.wanting.discard(symbol)
        self.world.after(self.random.expovariate(1 / 10), self._turn, holder, symbol)

    def _quote(self, holder: _Holder, symbol: int) -> None:
        """About once a second a symbol's quote is replaced, or made, or is no longer wanted and withdrawn."""
        self.world.after(self.random.expovariate(1.0), self._quote, holder, symbol)
        if holder.stalled:
            return
        now = self._time(holder.clock)
        held = holder.held(now, self.case.rules.grace)
        if symbol not in holder.wanting:
            if holder.quotes.pop(symbol, None) is not None:
                self._shown.pop(symbol, None)
            return
        if symbol not in holder.quotes and held + SIZE > holder.term.amount:
            return
        ends = min(now + TTL, holder.term.until) if self.case.rules.within else now + TTL
        if ends <= now:
            return
        holder.quotes[symbol] = ends
        self._shown[symbol] = ends + (SKEW if self.case.faults else 0.0)
        self.outcome.grants += 1
        self._measure()

    def _renew(self, holder: _Holder) -> None:
        self.world.after(RENEW, self._renew, holder)
        cut = self.case.cut is not None and holder.index == 0 and self.world.now >= self.case.cut
        if holder.stalled or cut:
            return
        holder.asked += 1
        wants = SIZE * len(holder.wanting)
        question = (holder.asked, holder.term.number, holder.held_then, wants)
        self._send(self._asked, holder, question)

    def _asked(self, holder: _Holder, question: tuple[int, int, int, int]) -> None:
        term = self.lender.ask(holder.index, *question)
        if term is not None:
            self._send(self._answered, holder, term)

    def _answered(self, holder: _Holder, term: _Term) -> None:
        if term.number > holder.term.number:
            holder.term = term
            holder.held_then = holder.held(self._time(holder.clock), self.case.rules.grace)

    # --- what goes wrong ------------------------------------------------------------------------------------------

    def _send(self, arrive: Callable[..., object], *args: object) -> None:
        """A message: it may be lost, late, or come twice."""
        copies = self.random.choice((0, 1, 1, 1, 1, 1, 1, 1, 1, 2)) if self.case.faults else 1
        for _ in range(copies):
            late = self.random.random() < 0.05 if self.case.faults else False
            self.world.after(self.random.expovariate(1 / (3.0 if late else 0.002)), arrive, *args)

    def _stall(self, holder: _Holder) -> None:
        """A holder does nothing for a while, though what it granted is still shown."""
        holder.stalled = True
        lasts = self.random.expovariate(1 / 4)

        def go_on() -> None:
            holder.stalled = False

        self.world.after(lasts, go_on)
        self.world.after(lasts + self.random.expovariate(1 / 20), self._stall, holder)

    def _clock(self) -> Clock:
        return Clock(self.world, self.random.uniform(-SKEW, SKEW) if self.case.faults else 0.0)

    def _time(self, clock: Clock) -> float:
        return self.world.now + clock.skew

    # --- what is looked at ----------------------------------------------------------------------------------------

    def _measure(self) -> int:
        """Lots that are shown now, by whichever clock has a quote end last."""
        now = self.world.now
        for symbol in [symbol for symbol, ends in self._shown.items() if ends < now]:
            del self._shown[symbol]
        shown = SIZE * len(self._shown)
        self.outcome.most = max(self.outcome.most, shown)
        return shown

    def _sample(self) -> None:
        self.world.after(0.1, self._sample)
        wanted = SIZE * sum(len(holder.wanting) for holder in self.holders)
        self._potential += min(self.case.limit, wanted)
        self._seen += min(self._measure(), wanted)


def simulate(case: Case) -> Outcome:
    """Run a case."""
    return _Simulation(case).run()


def table(seed: int = 1) -> list[str]:
    """The usable share of the limit against the number of leases, as lines of a Markdown table."""
    lines = [
        "| leases | demand 0.8 × the limit | demand 1.2 × | 1.2 ×, with faults | 1.2 ×, one holder cut off |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    for holders in (1, 2, 4, 8, 16, 32, 64):
        found = [
            simulate(Case(seed, holders, faults=False, demand=0.8)),
            simulate(Case(seed, holders, faults=False, demand=1.2)),
            simulate(Case(seed, holders, demand=1.2)),
            simulate(Case(seed, holders, faults=False, demand=1.2, cut=60.0)),
        ]
        lines.append(f"| {holders} | " + " | ".join(f"{one.used:.1%}" for one in found) + " |")
    return lines
