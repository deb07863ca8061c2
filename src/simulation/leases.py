"""A simulation of the limit lent to several exposure logs: does it hold at every instant, and what does lending cost?

Nothing of this runs in the system, which has one exposure log. It simulates the design for when one is not enough
(docs/capacity.md): a *lender* has the whole limit, *holders* divide the symbols, and each grants what its lease allows.
Only one side of the limit is simulated; the other one works alike.

The protocol:
- Every `RENEW` seconds a holder sends the lender its demand, the term that it follows, and how much it had granted when
  it adopted that term. The lender replies with the next term: an amount and an end. It records the term before it sends
  it, and counts it from then on.
- A holder's grants never exceed the amount of the newest term that it knows, and no quote outlives that term. A quote
  counts until `GRACE` after its end. A smaller amount ends no quote: no further symbol is quoted until enough have
  ended.
- For each holder, the lender counts the largest term that may be in force: terms count until `GRACE` after their end,
  except those before the term that the holder follows. It counts at least what the holder had granted when it adopted
  that term.
- Nobody waits for a message: if one is lost, late or duplicated, the lender counts too much, never too little.
- `GRACE` covers the error of two clocks: the lender's, and that of the process that lets a quote expire.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from simulation.trace import Trace
from simulation.world import Clock, World

LEASE = 5.0
"""Seconds that a term lasts."""

RENEW = 0.5
"""Seconds between two requests of a holder."""

GRACE = 2.0
"""Seconds for which a term still counts after its end."""

SKEW = 0.9
"""The most seconds by which a clock is wrong: less than half of the grace."""

TTL = 30.0
"""Seconds that a quote lives, unless its term ends earlier."""

SIZE = 10
"""Lots per quote."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of the protocol. Tests break each in turn, to see that the check finds it.

    Attributes:
        grace: seconds for which the lender counts a term after its end.
        within: quotes end with the term in which they were granted.
        remembers: the lender counts earlier terms that may still be in force.
    """

    grace: float = GRACE
    within: bool = True
    remembers: bool = True


@dataclass(frozen=True, slots=True)
class Case:
    """The parameters of one simulation.

    Attributes:
        holders: how many exposure logs there are.
        demand: the average demand of all symbols together, as a multiple of the limit.
        faults: messages are lost, late and duplicated, clocks differ, and holders stall.
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
    """The result of a simulation.

    Attributes:
        most: the most lots shown at once.
        used: the average share of the possible exposure that was shown, from 0 to 1.
        grants: how many quotes were granted.
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
    """The lender's knowledge of a holder, all of which is in its log."""

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

    def lend(self, holder: int, number: int, adopted: int, held: int, wants: int) -> _Term | None:
        """Lend to a holder. Return the term; None for a request that is not newer than an earlier one."""
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
        """Return the most lots that a holder may show now."""
        alive = [term for term in account.terms if now <= term.until + self._case.rules.grace]
        if not alive:
            return 0
        terms = alive if self._case.rules.remembers else alive[-1:]
        return max(*(term.amount for term in terms), account.held if self._case.rules.remembers else 0)

    def _portion(self, account: _Account) -> int:
        """Return a holder's portion of the limit: what it wants, but no more than an equal share, plus an equal part of
        what others leave over."""
        left, others = self._case.limit, sorted(each.wants for each in self._accounts)
        for place, wants in enumerate(others):
            share = left // (len(others) - place)
            if wants >= share:
                return min(account.wants, share)
            left -= wants
        # All have what they want: the rest is lent in equal parts, for future demand.
        return account.wants + left // len(others)


@dataclass(slots=True)
class _Holder:
    """One exposure log: its symbols, which of them are to be quoted, and the quotes that it has granted."""

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
        """Return the lots of all quotes until the grace after their end, because other clocks may be slow."""
        for symbol in [symbol for symbol, ends in self.quotes.items() if ends + grace < now]:
            del self.quotes[symbol]
        return SIZE * len(self.quotes)


class _Simulation:
    def __init__(self, case: Case) -> None:
        self.case = case
        self.world = World(case.seed, Trace())
        self.random = random.Random(f"leases/{case.seed}")
        self.outcome = Outcome()
        self._shown: dict[int, float] = {}  # by symbol, when its quote ends by the slowest clock
        self._potential = self._seen = 0.0
        lending = self._clock()
        self.lender = _Lender(case, lambda: self._time(lending))
        self.holders = [
            _Holder(index, list(range(index, case.symbols, case.holders)), self._clock())
            for index in range(case.holders)
        ]

    def run(self) -> Outcome:
        """Run the simulation."""
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
        """Decide whether a symbol is to be quoted from now on."""
        wanted = min(0.95, self.case.demand * self.case.limit / (SIZE * self.case.symbols))
        if self.random.random() < wanted:
            holder.wanting.add(symbol)
        else:
            holder.wanting.discard(symbol)
        self.world.after(self.random.expovariate(1 / 10), self._turn, holder, symbol)

    def _quote(self, holder: _Holder, symbol: int) -> None:
        """Make, replace or withdraw a symbol's quote, about once per second."""
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
        request = (holder.asked, holder.term.number, holder.held_then, wants)
        self._send(self._on_request, holder, request)

    def _on_request(self, holder: _Holder, request: tuple[int, int, int, int]) -> None:
        term = self.lender.lend(holder.index, *request)
        if term is not None:
            self._send(self._on_term, holder, term)

    def _on_term(self, holder: _Holder, term: _Term) -> None:
        if term.number > holder.term.number:
            holder.term = term
            holder.held_then = holder.held(self._time(holder.clock), self.case.rules.grace)

    # --- faults ---------------------------------------------------------------------------------------------------

    def _send(self, arrive: Callable[..., object], *args: object) -> None:
        """Send a message, which may be lost, late or duplicated."""
        copies = self.random.choice((0, 1, 1, 1, 1, 1, 1, 1, 1, 2)) if self.case.faults else 1
        for _ in range(copies):
            late = self.random.random() < 0.05 if self.case.faults else False
            self.world.after(self.random.expovariate(1 / (3.0 if late else 0.002)), arrive, *args)

    def _stall(self, holder: _Holder) -> None:
        """Have a holder do nothing for a while. Its quotes are still shown."""
        holder.stalled = True
        lasts = self.random.expovariate(1 / 4)

        def resume() -> None:
            holder.stalled = False

        self.world.after(lasts, resume)
        self.world.after(lasts + self.random.expovariate(1 / 20), self._stall, holder)

    def _clock(self) -> Clock:
        return Clock(self.world, self.random.uniform(-SKEW, SKEW) if self.case.faults else 0.0)

    def _time(self, clock: Clock) -> float:
        return self.world.now + clock.skew

    # --- measuring ------------------------------------------------------------------------------------------------

    def _measure(self) -> int:
        """Return the lots that are shown now, by the slowest clock."""
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
    """Return the usable share of the limit by the number of leases, as lines of a Markdown table."""
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
