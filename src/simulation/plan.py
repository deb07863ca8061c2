"""The plan that a seed determines: the size of the system, how busy it is, and which faults come when. Pure.

Everything is drawn before the run begins, so that a failing run can be shrunk by leaving out faults.
"""

import math
import random
from collections.abc import Collection
from decimal import Decimal
from typing import Any

import msgspec

from process.settings import Market
from wire.instruments import Instrument

KINDS = (
    "kill",  # a process ends at once
    "power",  # a process ends at once, and loses what its disk had not synced
    "fuse",  # a process ends right before or after one of its next messages to the broker
    "pause",  # a process is paused
    "freeze",  # a process is paused right before or after one of its next messages to the broker
    "restart",  # a process is stopped in order, and started again
    "cut",  # no message passes between a process and the broker, in either direction
    "mute",  # no message of a process reaches the broker
    "deaf",  # no message of the broker reaches a process
    "reset",  # a process's connection to the broker ends
    "broker-kill",  # the broker ends at once, and is started again; unsynced streams lose their last 10 ms
    "broker-tail",  # likewise; but it stores some messages in flight, and unsynced streams may lose up to 50 s
    "broker-pause",  # the broker is paused
    "broker-full",  # the broker stores nothing and reports no error, until it is restarted
    "broker-slow",  # the broker's disk is slow
    "lost-ack",  # the broker stores some messages without acknowledging them
    "server-cut",  # one of three servers is cut off from the others; if it was the leader, it does not know its end
    "election",  # another of three servers becomes the leader, after a time without one
    "lost",  # some messages of the broker do not reach a process, as if lost between servers
    "late",  # some messages reach the broker's disk much later than they were sent
    "web-cut",  # no request of a client reaches a process
    "web-deaf",  # a process's answers to clients are lost
    "disk-full",  # a ledger's disk is full
    "disk-slow",  # a ledger's disk is slow
    "clock-step",  # a machine's clock is wrong for a while
    "clock-drift",  # a machine's clock runs too fast or too slow for a while
)
"""The kinds of faults."""

ON_BROKER = (
    "broker-kill",
    "broker-tail",
    "broker-pause",
    "broker-full",
    "broker-slow",
    "lost-ack",
    "late",
    "server-cut",
    "election",
)
ON_CLUSTER = ("server-cut", "election")
ON_LEDGER = ("disk-full", "disk-slow", "power")
LASTING = ("pause", "freeze", "kill", "late", "broker-pause", "mute", "deaf", "clock-step", "disk-slow", "lost")
AT_MESSAGES = {
    "exchange": ("", "fills.", "quotes.", "rpc."),
    "exposure": ("", "exposure.decisions", "_INBOX."),
    "ledger": ("", "positions.", "fills."),
    "maker": ("", "rpc.", "$KV."),
}
"""By service, the prefixes of subjects at whose messages its processes may end or pause."""
ON_ALL = ("kill", "pause", "freeze", "cut", "mute", "deaf", "restart")
"""The faults that may hit all processes of a service at once."""

LONG = 0.1
"""The share of seeds that are long: little happens for a long time."""

CROWDED = 0.35
"""The share of short seeds with much demand for a small limit."""

SLUGGISH = 0.25
"""The share of short seeds whose faults outlast the timeouts of others."""

SWITCHING = 0.1
"""The share of short seeds that are sluggish and in which the kill switch is often set."""

STORMY = 0.15
"""The share of short seeds with several faults per second."""

REDEFINING = 0.25
"""The share of short seeds in which instruments change."""

TTL_CHANGING = 0.15
"""The share of short seeds in which the lifetime of quotes changes."""

FEEDING = 0.2
"""The share of short seeds in which feeds send reference prices."""

LOSS_LIMITED = 0.2
"""The share of short seeds in which losses are limited."""

HOARDING = 0.15
"""The share of short seeds in which a client keeps reserving the whole limit and never quotes."""

CARELESS = 0.15
"""The share of short seeds in which a client does what the protocol forbids."""

FORGING = 0.15
"""The share of short seeds in which an attacker without write permission misdirects the broker's replies."""

OUTAGES = 0.3
"""The share of sluggish seeds in which all makers are paused for long, again and again."""

WHOLE_SERVICE = 0.15
"""The share of the faults in `ON_ALL` that hit every process of a service."""

LONG_FAULTS = 0.15
"""The share of faults that outlast the timeouts of others."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One fault.

    Attributes:
        number: its number in the plan.
        at: when it begins, in seconds after the start of the faults.
        kind: one of `KINDS`.
        target: the process that it hits, or the service all of whose processes it hits; empty for the broker.
        seconds: how long it lasts.
        amount: how much, depending on the kind: messages, seconds of skew, or a factor.
        on: of `fuse` and `freeze`, the prefix of the subjects of the messages that count.
    """

    number: int
    at: float
    kind: str
    target: str = ""
    seconds: float = 0.0
    amount: float = 0.0
    on: str = ""

    def __str__(self) -> str:
        target = f" {self.target}" if self.target else ""
        amount = f"{self.amount:.3f} on {self.on}" if self.on else f"{self.amount:.3f}"
        return f"{self.number}: {self.kind}{target} at {self.at:.3f} s for {self.seconds:.3f} s ({amount})"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of one run. All rates are per second.

    Attributes:
        seconds: for how long faults are injected.
        exchanges: how many exchanges there are; likewise `exposures`, `makers` and `ledgers`.
        order_rate: orders.
        booking_rate: reports of fills that were executed elsewhere.
        switch_rate: pauses and resumes.
        read_rate: reads of positions and of exposure.
        hand_rate: quotes by hand, which reserve more than a maker does.
        least: the least seconds that a message takes.
        spread: what a message takes in addition, in seconds, on average.
        sync: seconds that a sync of the broker takes, on average.
        heartbeat: seconds between two heartbeats of the broker to the followers of a stream.
        sluggish: faults outlast the timeouts of others.
        hoard_rate: reservations of the whole limit that are never used.
        careless_rate: requests that the protocol forbids.
        forge_rate: messages that an attacker without write permission misdirects.
        define_rate: changes of an instrument.
        ttl_rate: changes of the lifetime of quotes, to twice `quote_ttl` at most.
        refer_rate: messages of feeds with reference prices.
        resume_rate: checks of an operator, at each of which about half of the pauses for losses are resumed.
        max_loss: the loss, in money, at which a symbol is paused; twice that for all symbols together; 0 for no limit.
        busy: the share of turns after which a process is busy.
        busy_for: how many seconds it is then busy, on average.
        faults: ordered by time.
    """

    seed: int
    seconds: float
    exchanges: int
    exposures: int
    makers: int
    ledgers: int
    shards: int
    replicas: int
    symbols: int
    limit: int
    quote_ttl: float
    grace: float
    id_window: float
    order_rate: float
    booking_rate: float
    switch_rate: float
    read_rate: float
    hand_rate: float
    least: float
    spread: float
    sync: float
    heartbeat: float
    sluggish: bool
    busy: float
    busy_for: float
    faults: list[Fault]
    hoard_rate: float = 0.0
    careless_rate: float = 0.0
    forge_rate: float = 0.0
    define_rate: float = 0.0
    ttl_rate: float = 0.0
    refer_rate: float = 0.0
    resume_rate: float = 0.0
    max_loss: int = 0

    @property
    def market(self) -> Market:
        """Return the settings that all services share."""
        return Market(
            limit=self.limit,
            quote_ttl=self.quote_ttl,
            max_quote_ttl=2 * self.quote_ttl if self.ttl_rate else self.quote_ttl,
            grace=self.grace,
            id_window=self.id_window,
            shards=self.shards,
            replicas=self.replicas,
            max_bytes=64 * 1024 * 1024,
            max_loss=Decimal(2 * self.max_loss) if self.max_loss else None,
            symbols={f"S{number}": _instrument(number, self.max_loss) for number in range(self.symbols)},
        )

    def instances(self) -> list[tuple[str, str, int]]:
        """Return the name, service, and number within the service, of every process."""
        counts = {
            "exposure": self.exposures,
            "exchange": self.exchanges,
            "ledger": self.ledgers,
            "maker": self.makers,
        }
        return [
            (f"{service}-{number}", service, number) for service, count in counts.items() for number in range(count)
        ]

    def only(self, numbers: Collection[int]) -> "Plan":
        """Return the same plan with only these faults."""
        return msgspec.structs.replace(self, faults=[fault for fault in self.faults if fault.number in numbers])


def _instrument(number: int, max_loss: int) -> Instrument:
    return Instrument(
        tick=Decimal("0.01"),
        reference_price=Decimal(100 + 50 * number),
        quote_size=10 + 2 * number,
        max_position=40 if number % 3 == 2 else None,
        max_loss=Decimal(max_loss) if max_loss else None,
        min_spread=20 if number % 3 == 2 else 0,
        multiplier=Decimal(50 if number % 2 else 1),
        fee_rate=Decimal("0.00015" if number % 2 else 0),
        gamma=Decimal("0.02"),
        k=Decimal(20),
        a=Decimal(1),
        sigma=Decimal("0.3"),
    )


def draw(seed: int, *, minutes: float | None = None, kinds: Collection[str] = KINDS, **fixed: Any) -> Plan:
    """Draw the plan of a seed.

    Args:
        seed: determines everything else.
        minutes: for how long faults are injected; drawn if it is None.
        kinds: the kinds of faults that may occur.
        fixed: values that replace what was drawn, by their names in `Plan`.
    """
    rng = random.Random(f"{seed}/plan")
    is_long = rng.random() < LONG
    seconds = _log_uniform(rng, 600.0, 7200.0) if is_long else _log_uniform(rng, 20.0, 180.0)
    if minutes:
        seconds = 60 * minutes
    exchanges, exposures, makers, ledgers = (rng.choice((1, 2, 2, 2, 3)) for _ in range(4))
    symbols = rng.choice((1, 2, 3, 3, 4))
    quote_ttl = rng.choice((3.0, 6.0, 10.0, 30.0))
    grace = rng.choice((1.0, 2.0, 2.0))
    drawn: dict[str, Any] = {
        "exchanges": exchanges,
        "exposures": exposures,
        "makers": makers,
        "ledgers": ledgers,
        "shards": rng.choice((1, 2, 2, 3)),
        "replicas": rng.choice((1, 1, 3)),
        "symbols": symbols,
        "limit": rng.choice((10, 12 * symbols - 4, 12 * symbols, 100)),
        "quote_ttl": quote_ttl,
        "grace": grace,
        "id_window": rng.choice((20.0, 60.0, 120.0)),
        "order_rate": _log_uniform(rng, 0.3, 6.0),
        "booking_rate": rng.choice((0.0, 0.05, 0.3)),
        "switch_rate": rng.choice((0.0, 0.0, 0.05, 0.3)),
        "read_rate": rng.choice((0.0, 0.5)),
        "hand_rate": rng.choice((0.0, 0.1, 1.0)),
        "least": rng.choice((0.00005, 0.0002, 0.002)),
        "spread": _log_uniform(rng, 0.0001, 0.01),
        "sync": _log_uniform(rng, 0.0002, 0.01),
        "heartbeat": rng.choice((0.5, 1.25, 1.25)),
        "sluggish": False,
        "busy": rng.choice((0.0, 0.02, 0.2)),
        "busy_for": _log_uniform(rng, 0.0002, 0.02),
    }
    rate = None
    if is_long:
        drawn |= _quiet(rng)
    else:
        mood = rng.random()
        if mood < CROWDED:
            drawn |= _crowded(rng, symbols)
        elif mood < CROWDED + SLUGGISH:
            drawn |= _sluggish(rng)
            kinds = [kind for kind in kinds if kind in LASTING]
        elif mood < CROWDED + SLUGGISH + SWITCHING:
            drawn |= {"sluggish": True, "makers": rng.choice((2, 3)), "switch_rate": 0.5, "order_rate": 0.5}
            kinds = [kind for kind in kinds if kind in LASTING]
        elif mood < CROWDED + SLUGGISH + SWITCHING + STORMY:
            drawn |= {"order_rate": _log_uniform(rng, 0.2, 2.0), "hand_rate": 0.1, "busy": 0.0}
            rate = rng.uniform(2.0, 6.0)
    hoards = random.Random(f"{seed}/hoard")
    if not is_long and hoards.random() < HOARDING:
        drawn["hoard_rate"] = _log_uniform(hoards, 1.0, 100.0)
    offends = random.Random(f"{seed}/careless")
    if not is_long and offends.random() < CARELESS:
        drawn["careless_rate"] = _log_uniform(offends, 0.2, 5.0)
    forges = random.Random(f"{seed}/forge")
    if not is_long and forges.random() < FORGING:
        drawn["forge_rate"] = _log_uniform(forges, 0.5, 20.0)
    defines = random.Random(f"{seed}/define")
    if not is_long and defines.random() < REDEFINING:
        drawn["define_rate"] = _log_uniform(defines, 0.05, 5.0)
    lives = random.Random(f"{seed}/lives")
    if not is_long and lives.random() < TTL_CHANGING:
        drawn["ttl_rate"] = _log_uniform(lives, 0.03, 0.5)
    refers = random.Random(f"{seed}/refer")
    if not is_long and refers.random() < FEEDING:
        drawn["refer_rate"] = _log_uniform(refers, 0.1, 15.0)
    loses = random.Random(f"{seed}/losses")
    if not is_long and loses.random() < LOSS_LIMITED:
        drawn |= {"max_loss": round(_log_uniform(loses, 1, 100)), "resume_rate": _log_uniform(loses, 0.02, 1.0)}
        # A moving reference price causes losses without any fill.
        drawn["refer_rate"] = drawn.get("refer_rate") or _log_uniform(loses, 0.05, 2.0)
    plan = Plan(seed=seed, seconds=seconds, faults=[], **{**drawn, **fixed})
    return msgspec.structs.replace(plan, faults=_faults(rng, plan, kinds, rate))


def _quiet(rng: random.Random) -> dict[str, Any]:
    """Draw what is special about long seeds, in which lifetimes and windows end many times while little happens."""
    return {
        "order_rate": _log_uniform(rng, 0.005, 0.1),
        "booking_rate": rng.choice((0.0, 0.002)),
        "switch_rate": rng.choice((0.0, 0.002)),
        "read_rate": rng.choice((0.0, 0.01)),
        "hand_rate": rng.choice((0.0, 0.005)),
        "quote_ttl": rng.choice((10.0, 30.0, 120.0)),
        "heartbeat": 1.25,
        "busy": 0.0,
    }


def _crowded(rng: random.Random, symbols: int) -> dict[str, Any]:
    """Draw what is special about crowded seeds: much demand for a small limit, and slow messages."""
    return {
        "limit": rng.choice((10, 10, 6 * symbols)),
        "quote_ttl": rng.choice((3.0, 6.0)),
        "id_window": 20.0,
        "order_rate": _log_uniform(rng, 2.0, 12.0),
        "hand_rate": rng.choice((0.3, 1.0, 3.0)),
        "switch_rate": rng.choice((0.0, 0.1)),
        "booking_rate": rng.choice((0.05, 0.5)),
        "read_rate": 0.5,
        "spread": _log_uniform(rng, 0.002, 0.04),
    }


def _sluggish(rng: random.Random) -> dict[str, Any]:
    """Draw what is special about sluggish seeds: orders and quotes are decided late, and quotes seldom replaced."""
    return {
        "sluggish": True,
        "exchanges": 2,
        "makers": 1,
        "symbols": rng.choice((1, 2)),
        "quote_ttl": 3.0,
        "order_rate": _log_uniform(rng, 2.0, 10.0),
        "hand_rate": rng.choice((0.0, 1.0)),
        "booking_rate": 0.0,
    }


def _faults(rng: random.Random, plan: Plan, kinds: Collection[str], rate: float | None) -> list[Fault]:
    """Draw the faults, of which there are `rate` per second on average; if that is None, it is drawn, too."""
    possible = [kind for kind in KINDS if kind in kinds and (plan.replicas > 1 or kind not in ON_CLUSTER)]
    if not possible:
        return []
    some = rng.sample(possible, rng.randint(1, len(possible)))
    weights = [_log_uniform(rng, 0.1, 1.0) * (0.25 if kind in ON_BROKER else 1.0) for kind in some]
    if plan.sluggish:
        rate = rng.uniform(0.2, 0.7)
    elif rate is None:
        rate = _log_uniform(rng, 0.02, 10.0) if plan.seconds < 600 else _log_uniform(rng, 0.002, 0.05)
    longest = _log_uniform(rng, 0.5, 15.0)
    names = [name for name, _, _ in plan.instances()]
    if plan.sluggish and plan.makers == 1 and rng.random() < OUTAGES and {"pause", "freeze"} <= set(kinds):
        return _outages(rng, plan)
    faults: list[Fault] = []
    at = 3.0
    while True:
        at += rng.expovariate(rate)
        if at >= plan.seconds:
            return faults
        kind = rng.choices(some, weights)[0]
        target = "" if kind in ON_BROKER else rng.choice(names)
        if kind in ON_LEDGER:
            target = f"ledger-{rng.randrange(plan.ledgers)}"
        if kind.startswith("web"):
            target = rng.choice([name for name in names if not name.startswith("exposure")])
        if kind in ON_ALL and rng.random() < WHOLE_SERVICE:
            target = target.partition("-")[0]
        seconds = _log_uniform(rng, 0.01, longest)
        if rng.random() < (1.0 if plan.sluggish else LONG_FAULTS):
            seconds = rng.uniform(3.0, 12.0)
        faults.append(
            Fault(
                number=len(faults),
                at=at,
                kind=kind,
                target=target,
                seconds=seconds,
                amount=_amount(rng, kind, plan.grace),
                on=rng.choice(AT_MESSAGES[target.partition("-")[0]]) if kind in ("fuse", "freeze") else "",
            )
        )


def _outages(rng: random.Random, plan: Plan) -> list[Fault]:
    """Draw long pauses of all makers, during which exchanges pause just before or after they send a message."""
    faults: list[Fault] = []
    at = rng.uniform(4.0, 8.0)
    while at < plan.seconds:
        faults.append(Fault(number=len(faults), at=at, kind="pause", target="maker", seconds=18.0))
        for number in rng.sample(range(plan.exchanges), rng.randint(1, plan.exchanges)):
            kind = rng.choice(AT_MESSAGES["exchange"])
            faults.append(
                Fault(
                    number=len(faults),
                    at=at + rng.uniform(0.0, 2.5),
                    kind="freeze",
                    target=f"exchange-{number}",
                    seconds=rng.uniform(3.5, 14.0),
                    amount=rng.choice((-1, -1, 1)) * rng.randint(1, 1 if kind else 4),
                    on=kind,
                )
            )
        at += rng.uniform(25.0, 40.0)
    return faults


def _amount(rng: random.Random, kind: str, grace: float) -> float:
    match kind:
        case "fuse" | "freeze":
            return rng.choice((1, -1)) * rng.randint(1, 12)
        case "lost-ack" | "late" | "lost":
            return rng.randint(1, 4)
        case "broker-slow" | "disk-slow":
            return _log_uniform(rng, 2.0, 200.0)
        case "clock-step":
            size = rng.choice((0.4 * grace, 2 * grace, _log_uniform(rng, 1.0, 400.0)))
            return rng.choice((1, -1)) * size
        case "clock-drift":
            return rng.choice((1, -1)) * _log_uniform(rng, 1e-5, 0.05)
        case _:
            return rng.random()


def _log_uniform(rng: random.Random, least: float, most: float) -> float:
    return math.exp(rng.uniform(math.log(least), math.log(most)))
