"""What goes wrong in a run, and when, drawn from a seed. Pure.

Faults come in *episodes*: one fault alone, or several that overlap, or everything at once. After an episode the system
is left alone: mostly long enough to recover, sometimes not. Which faults come is dealt from shuffled decks, so that a
run meets every kind on every target before it meets one of them again.

Ordering rules:
- Faults are sorted by when they begin, and every one of them ends within the duration.
- A target has one fault at a time. An outage, damage, a full disk and a lost store have the whole system to themselves,
  and what is done to a cluster of NATS servers comes alone.
"""

import math
import random
from collections.abc import Iterator, Sequence
from typing import Literal, TypeVar, get_args

import msgspec

Kind = Literal[
    "kill",
    "pause",
    "restart",
    "outage",
    "disk-full",
    "stall",
    "slow",
    "cut",
    "clock",
    "damage",
    "attacker",
    "leader-kill",
    "leader-pause",
    "cluster-kill",
    "store-lost",
    "partition",
]
"""kill: SIGKILL. pause: SIGSTOP, and SIGCONT later. restart: SIGTERM. outage: an orderly stop and start of everything.
disk-full: nothing more can be written to the data folder. damage: an outage, during which a byte of a ledger's database
is flipped, or the file cut short; of a cluster, also of what a NATS server stored of the market log. attacker: somebody
does the worst that can be done with a reader's key, all the time: it is in no schedule (`chaos.attacker`).

Of the network between a service and the NATS servers, alone: stall: nothing arrives. slow: everything takes long. cut:
its connections end. And clock: a service's clock is wrong, and then right again.

Of a cluster of NATS servers only: leader-kill and leader-pause: the same, of the server that leads a stream just then.
cluster-kill: SIGKILL of every server at once. store-lost: a server dies, and all it stored is gone. partition: a server
is cut off from the others, and not from its clients."""

KINDS: tuple[Kind, ...] = get_args(Kind)

UNASKED: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind != "clock")
"""Those of a run that names none. A clock is wrong only if that is asked for: questions for the time are slow then."""

CLUSTER_KINDS: tuple[Kind, ...] = ("leader-kill", "leader-pause", "cluster-kill", "store-lost", "partition")

_ALONE: tuple[Kind, ...] = ("outage", "disk-full", "damage", "attacker", *CLUSTER_KINDS)
"""Kinds that are no fault of one process while others run."""

HARMS = ("flip", "cut")

EVERYTHING = "everything"
"""The target of an outage and of a full disk."""

QUIET = 2.0
"""Seconds before the first fault."""

NETWORK_KINDS: tuple[Kind, ...] = ("stall", "slow", "cut")

OF_SERVICES: tuple[Kind, ...] = (*NETWORK_KINDS, "clock")
"""Kinds that are done to services only: a NATS server is at the end of every wire, and its clock is right."""

WAYS = ("to-server", "to-client", "both")

SHORTEST_PAUSE = 1.0
LONGEST_PAUSE = 40.0

_OUTAGE = (6.0, 10.0)
_DISK_FULL = (4.0, 8.0)
_DELAY = (0.05, 0.5)
_STEP = (0.1, 300.0)
_LARGE: tuple[Kind, ...] = ("damage", "cluster-kill", "store-lost", "partition")

SHORTEST_PARTITION = 3.0
"""Seconds: some end before the servers notice, after 4 to 6 s; most do not."""

_HARDLY = (0.1, 1.5)
_ENOUGH = (2.5, 6.0)
_ENOUGH_FOR_ALL = (8.0, 12.0)

Shape = Literal["single", "several", "all-killed", "outage", "disk-full", "damage", "cluster"]

T = TypeVar("T")


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One fault. Times are seconds since the start of the schedule.

    Attributes:
        at: when it begins.
        kind: what is done.
        target: the process it is done to, or `EVERYTHING`; of a leader's fault the stream.
        lasts: how long; 0 for what is over as soon as it is done.
        way: of a network's fault: the direction that it is of, or `both`; of damage, one of `HARMS`.
        amount: of a stall the bytes that may still pass before it, of a slow network the seconds that everything takes,
            of a clock the seconds that it is ahead, of damage how far into all bytes it is done, from 0 to below 1.
    """

    at: float
    kind: Kind
    target: str
    lasts: float = 0.0
    way: str = ""
    amount: float = 0.0

    @property
    def ends(self) -> float:
        """When it ends."""
        return self.at + self.lasts


def schedule(
    seed: int,
    duration: float,
    targets: Sequence[str],
    kinds: Sequence[Kind] = ("kill", "pause", "restart", "outage"),
    streams: Sequence[str] = (),
) -> list[Fault]:
    """The faults of a run.

    Args:
        seed: the same seed and arguments give the same faults.
        duration: seconds within which all of them end.
        targets: the processes to choose from.
        kinds: the kinds of faults to choose from.
        streams: those of a cluster of NATS servers, whose leaders are hurt; without any there is no cluster.
    """
    draw = random.Random(f"chaos-{seed}")
    episodes = _episodes(draw, duration, targets, kinds, streams)
    found: list[Fault] = []
    at = QUIET
    while episode := next(episodes, None):
        begun = [msgspec.structs.replace(fault, at=round(at + fault.at, 2)) for fault in episode]
        end = max(fault.ends for fault in begun)
        if end > duration:
            break
        found += begun
        is_large = any(fault.target == EVERYTHING or fault.kind in _LARGE for fault in begun)
        enough = _ENOUGH_FOR_ALL if is_large else _ENOUGH
        at = end + draw.uniform(*(_HARDLY if draw.random() < 0.25 else enough))
    return sorted(found, key=lambda fault: (fault.at, fault.target))


def _episodes(
    draw: random.Random, duration: float, targets: Sequence[str], kinds: Sequence[Kind], streams: Sequence[str]
) -> Iterator[list[Fault]]:
    """Episodes without end, each beginning at 0."""
    singles: list[tuple[Kind, str]] = [
        (kind, target)
        for kind in kinds
        for target in targets
        if kind not in _ALONE and not (kind in OF_SERVICES and target.startswith("nats"))
    ]
    shapes: list[Shape] = []
    hurt_alone = {target for _, target in singles}
    if singles:
        shapes += ["single"] * 6
        shapes += ["several"] * 3 if len(hurt_alone) > 1 else []
        shapes += ["all-killed"] if "kill" in kinds else []
    if "outage" in kinds:
        shapes += ["outage"]
    if "disk-full" in kinds:
        shapes += ["disk-full"]
    servers = [target for target in targets if target.startswith("nats-")]
    stores = [target for target in targets if target.partition("-")[0] == "ledger"] + (servers if streams else [])
    if "damage" in kinds and stores:
        shapes += ["damage"]
    of_cluster = [kind for kind in CLUSTER_KINDS if kind in kinds and streams and servers]
    shapes += ["cluster"] * len(of_cluster)
    if not shapes:
        return
    shape_deck = _deck(draw, shapes)
    single_deck = _deck(draw, singles)
    cluster_deck = _deck(draw, of_cluster)
    stream_deck, server_deck, store_deck = _deck(draw, streams), _deck(draw, servers), _deck(draw, stores)
    longest = min(LONGEST_PAUSE, max(2 * SHORTEST_PAUSE, duration / 6))
    for shape in shape_deck:
        match shape:
            case "single":
                yield [_single(draw, *next(single_deck), longest)]
            case "several":
                yield _several(draw, single_deck, draw.randint(2, min(3, len(hurt_alone))), longest)
            case "all-killed":
                yield [Fault(at=0, kind="kill", target=target) for target in targets]
            case "outage":
                yield [Fault(at=0, kind="outage", target=EVERYTHING, lasts=_drawn(draw, *_OUTAGE))]
            case "disk-full":
                yield [Fault(at=0, kind="disk-full", target=EVERYTHING, lasts=_drawn(draw, *_DISK_FULL))]
            case "damage":
                lasts, amount, way = _drawn(draw, *_OUTAGE), draw.random(), draw.choice(HARMS)
                yield [Fault(at=0, kind="damage", target=next(store_deck), lasts=lasts, way=way, amount=amount)]
            case "cluster":
                match next(cluster_deck):
                    case "leader-kill":
                        yield [Fault(at=0, kind="leader-kill", target=next(stream_deck))]
                    case "leader-pause":
                        lasts = _evenly(draw, SHORTEST_PAUSE, longest)
                        yield [Fault(at=0, kind="leader-pause", target=next(stream_deck), lasts=lasts)]
                    case "partition":
                        lasts = _evenly(draw, min(SHORTEST_PARTITION, longest), longest)
                        yield [Fault(at=0, kind="partition", target=next(server_deck), lasts=lasts)]
                    case "store-lost":
                        yield [Fault(at=0, kind="store-lost", target=next(server_deck))]
                    case _:
                        yield [Fault(at=0, kind="cluster-kill", target=server) for server in servers]


def _single(draw: random.Random, kind: Kind, target: str, longest: float, at: float = 0.0) -> Fault:
    """A fault of one process."""
    lasts = _evenly(draw, SHORTEST_PAUSE, longest) if kind in ("pause", "stall", "slow", "clock") else 0.0
    way, amount = "", 0.0
    match kind:
        case "stall":
            way, amount = draw.choice(WAYS), float(draw.choice((0, draw.randrange(10), draw.randrange(5000))))
        case "slow":
            way, amount = draw.choice(WAYS), _drawn(draw, *_DELAY)
        case "clock":
            amount = draw.choice((-1, 1)) * _evenly(draw, *_STEP)
        case _:
            pass
    return Fault(at=at, kind=kind, target=target, lasts=lasts, way=way, amount=amount)


def _several(draw: random.Random, singles: Iterator[tuple[Kind, str]], count: int, longest: float) -> list[Fault]:
    """Faults of different processes, the later ones during the first or shortly after it."""
    first = _single(draw, *next(singles), longest)
    found = [first]
    while len(found) < count:
        kind, target = next(singles)
        if all(target != fault.target for fault in found):
            at = _drawn(draw, 0.0, max(first.lasts, 1.5))
            found.append(_single(draw, kind, target, longest, at))
    return found


def _deck(draw: random.Random, cards: Sequence[T]) -> Iterator[T]:
    """The cards in a random order, then again in another one, and so on."""
    while cards:
        yield from draw.sample(cards, len(cards))


def _evenly(draw: random.Random, shortest: float, longest: float) -> float:
    """A length of time, drawn evenly over its magnitudes."""
    return round(math.exp(draw.uniform(math.log(shortest), math.log(longest))), 2)


def _drawn(draw: random.Random, least: float, most: float) -> float:
    return round(draw.uniform(least, most), 2)
